"""What Prometheus is told of one model's batches and queue."""

from collections.abc import Callable, Sequence
from typing import Any

from embedscale.embedder.window_queue import Window
from embedscale.servicekit.telemetry import (
    BATCH_TOKENS,
    BATCHES,
    PADDED_TOKENS,
    QUEUE_SECONDS,
    QUEUED_TOKENS,
    TOKEN_BUDGET,
)


class BatchMeter:
    """Counts over the whole process, by the model's name."""

    def __init__(self, model: str, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._batches, self._tokens = BATCHES.labels(model), BATCH_TOKENS.labels(model)
        self._padded, self._budget = PADDED_TOKENS.labels(model), TOKEN_BUDGET.labels(model)
        self._queued = QUEUED_TOKENS.labels(model)
        self._waits = {True: QUEUE_SECONDS.labels(model, "interactive"), False: QUEUE_SECONDS.labels(model, "bulk")}

    def token_budget(self, tokens: int) -> None:
        """Set the most padded tokens in a batch."""
        self._budget.set(tokens)

    def queued(self, tokens: int) -> None:
        """Set the tokens that wait or are being computed."""
        self._queued.set(tokens)

    def taken(self, batch: Sequence[Window[Any]]) -> None:
        """Observe how long the windows of a batch have waited."""
        now = self._clock()
        for window in batch:
            self._waits[window.interactive].observe(now - window.arrived)

    def computed(self, batch: Sequence[Window[Any]]) -> None:
        """Count a batch with its padding."""
        self._batches.inc()
        self._tokens.observe(sum(map(len, batch)))
        self._padded.inc(len(batch) * max(map(len, batch)))
