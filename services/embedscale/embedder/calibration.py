"""Finds how many tokens a model computes best at a time on this machine."""

import logging
import time
from collections.abc import Callable, Sequence

from embedscale.core.embedding import Matrix
from embedscale.embedder.probe import probe_windows
from embedscale.embedder.tokenizing import Tokenizer

log = logging.getLogger(__name__)

_BUDGETS = (512, 1024, 2048, 4096, 8192)
_TEXT_TOKENS = 62  # between a question and a chunk
_SECONDS = 1.5
_GAIN = 1.03
"""How much faster a larger budget must be: in small batches nobody waits long."""

Forward = Callable[[Sequence[Sequence[int]]], Matrix]


def fastest_budget(forward: Forward, tokenizer: Tokenizer, max_tokens: int) -> int:
    """Padded tokens a batch at which `forward` computes most tokens a second; takes about two seconds at most."""
    forward(probe_windows(tokenizer, [_TEXT_TOKENS] * 4, max_tokens))  # the first batch of a process is slow
    started = time.perf_counter()
    best, best_rate = _BUDGETS[0], 0.0
    for budget in _BUDGETS:
        windows = probe_windows(tokenizer, [_TEXT_TOKENS] * (budget // (_TEXT_TOKENS + 2)), max_tokens)
        rate = _tokens_per_second(forward, windows)
        if rate > best_rate * _GAIN:
            best, best_rate = budget, rate
        if (time.perf_counter() - started) + 4 * sum(map(len, windows)) / rate > _SECONDS:
            break
    log.info("token budget %d: %.0f tokens a second", best, best_rate)
    return best


def _tokens_per_second(forward: Forward, windows: Sequence[Sequence[int]]) -> float:
    """The better of two runs: the first one also makes room in memory."""
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        forward(windows)
        seconds.append(time.perf_counter() - started)
    return sum(map(len, windows)) / min(seconds)
