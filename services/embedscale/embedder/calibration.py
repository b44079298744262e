"""Finds how many tokens a model computes best at a time on this machine."""

import logging
import time
from collections.abc import Callable, Sequence

from embedscale.core.embedding import Matrix
from embedscale.embedder.probe import probe_windows
from embedscale.embedder.tokenizing import Tokenizer

log = logging.getLogger(__name__)

BUDGETS = (512, 1024, 2048, 4096, 8192)
_LENGTHS = (30, 510)
"""Tokens of a question and of a chunk, without special tokens; the model's maximum cuts them."""
_SECONDS = 2.0
_RUN_SECONDS = 0.1
_GAIN = 1.03
"""How much faster a larger budget must be: in small batches nobody waits long."""

Forward = Callable[[Sequence[Sequence[int]]], Matrix]


def fastest_budget(forward: Forward, tokenizer: Tokenizer, max_tokens: int) -> int:
    """Padded tokens a batch at which `forward` computes most tokens a second; takes about three seconds at most."""
    started = time.perf_counter()
    best, best_rate = BUDGETS[0], 0.0
    for budget in BUDGETS:
        batches = [_batch(tokenizer, length, budget, max_tokens) for length in _LENGTHS]
        rate = sum(sum(map(len, batch)) for batch in batches) / sum(_seconds(forward, batch) for batch in batches)
        if rate > best_rate * _GAIN:
            best, best_rate = budget, rate
        if (time.perf_counter() - started) + 2 * len(_LENGTHS) * 2 * budget / rate > _SECONDS:
            break
    log.info("token budget %d: %.0f tokens a second", best, best_rate)
    return best


def _batch(tokenizer: Tokenizer, length: int, budget: int, max_tokens: int) -> list[list[int]]:
    (window,) = probe_windows(tokenizer, [length], max_tokens)
    return probe_windows(tokenizer, [length] * max(budget // len(window), 1), max_tokens)


def _seconds(forward: Forward, batch: Sequence[Sequence[int]]) -> float:
    """Least time of several runs, two unless one is very slow: the first ones also make room in memory."""
    seconds: list[float] = []
    while sum(seconds) < _RUN_SECONDS or (len(seconds) < 2 and seconds[0] < _SECONDS):
        started = time.perf_counter()
        forward(batch)
        seconds.append(time.perf_counter() - started)
    return min(seconds)
