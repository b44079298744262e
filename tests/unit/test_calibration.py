"""The token budget is the one at which a model computes most tokens a second, and a small one where that is as good."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from embedscale.embedder import calibration
from embedscale.embedder.tokenizing import TokenizedText


class Words:
    """A tokenizer of a hundred words."""

    ordinary_ids = tuple(range(5, 105))

    def windows(self, text: TokenizedText, max_tokens: int) -> list[list[int]]:
        return [[0, *text.content, 1][:max_tokens]]


@pytest.mark.parametrize(
    ("nanoseconds_a_token", "expected"),
    [
        (lambda tokens: 1000 if tokens > 2100 else 500 + 200_000 / tokens, 2048),
        (lambda tokens: 100 + tokens / 100, 512),
        (lambda tokens: 1000 - tokens / 1000, 512),  # faster by less than counts
        (lambda tokens: 10_000_000, 512),  # too slow to try more
    ],
)
def test_the_fastest_budget_is_found(
    nanoseconds_a_token: Callable[[int], float], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, computed = [0.0], []

    def forward(windows: Sequence[Sequence[int]]) -> np.ndarray:
        tokens = sum(map(len, windows))
        computed.append(tokens)
        now[0] += tokens * nanoseconds_a_token(tokens) * 1e-9
        return np.zeros((len(windows), 1), np.float32)

    monkeypatch.setattr("embedscale.embedder.calibration.time.perf_counter", lambda: now[0])
    assert calibration.fastest_budget(forward, Words(), 512) == expected
    assert max(computed) <= 8192
    assert now[0] < 16  # seconds, for a model of 100 tokens a second
