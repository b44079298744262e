"""The stages of an evaluation: each is timed, and a span of its trace."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from embedscale.core.evaluation import Stage
from embedscale.evaluator.telemetry import EVALUATION_STAGE_SECONDS
from embedscale.tracing.spans import span


@contextmanager
def timed(stage: Stage) -> Iterator[None]:
    """Time a stage, whether it fails or not."""
    started = time.perf_counter()
    with span(stage.value):
        try:
            yield
        finally:
            EVALUATION_STAGE_SECONDS.labels(stage.value).observe(time.perf_counter() - started)
