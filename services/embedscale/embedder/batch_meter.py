"""What Prometheus is told of one model's batches and queue."""

from collections.abc import Callable, Sequence
from typing import Any

from embedscale.embedder.telemetry import (
    BATCH_FILL,
    BATCH_TOKENS,
    BATCHES,
    PADDED_TOKENS,
    QUEUE_SECONDS,
    QUEUED_TOKENS,
    TOKEN_BUDGET,
    TOKENS_PER_SECOND,
)
from embedscale.embedder.window_queue import Window
from embedscale.embedding.telemetry import STAGE_SECONDS


class BatchMeter:
    """Counts over the whole process, by the model's name."""

    def __init__(self, model: str, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._batches, self._tokens = BATCHES.labels(model), BATCH_TOKENS.labels(model)
        self._padded, self._budget = PADDED_TOKENS.labels(model), TOKEN_BUDGET.labels(model)
        self._speed = TOKENS_PER_SECOND.labels(model)
        self._queued = QUEUED_TOKENS.labels(model)
        self._queue, self._compute = STAGE_SECONDS.labels(model, "queue"), STAGE_SECONDS.labels(model, "compute")
        self._fill = BATCH_FILL.labels(model)
        self._budget_tokens = 1
        self._waits = {True: QUEUE_SECONDS.labels(model, "interactive"), False: QUEUE_SECONDS.labels(model, "bulk")}

    def token_budget(self, tokens: int) -> None:
        """Set the most padded tokens in a batch."""
        self._budget_tokens = tokens
        self._budget.set(tokens)

    def speed(self, tokens_per_second: float | None) -> None:
        """Set the measured speed."""
        self._speed.set(tokens_per_second or 0.0)

    def answered(self, seconds: float, computing: float) -> None:
        """Observe how long a request took, and how much of that its batches."""
        self._queue.observe(max(seconds - computing, 0.0))
        self._compute.observe(computing)

    def queued(self, tokens: int) -> None:
        """Set the tokens that wait or are being computed."""
        self._queued.set(tokens)

    def taken(self, batch: Sequence[Window[Any]]) -> None:
        """Observe how long the windows of a batch have waited."""
        now = self._clock()
        for window in batch:
            self._waits[window.interactive].observe(now - window.arrived)

    def computed(self, batch: Sequence[Window[Any]], slots: int) -> None:
        """Count a batch, which took so many slots, with its padding."""
        self._batches.inc()
        self._tokens.observe(sum(map(len, batch)))
        padded = len(batch) * max(map(len, batch))
        self._padded.inc(padded)
        self._fill.observe(padded / self._budget_tokens / slots)
