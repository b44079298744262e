"""The stages of a request: each is timed, and a span of the request's trace."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from embedscale.embedding.telemetry import STAGE_SECONDS
from embedscale.tracing.spans import span

MODEL = "embedscale.model"
INPUTS = "embedscale.inputs"
TOKENS = "embedscale.tokens"
CACHE_HITS = "embedscale.cache_hits"


@contextmanager
def stage(model: str, name: str) -> Iterator[None]:
    """Time a stage of a request for a model of the catalog."""
    started = time.perf_counter()
    with span(name, {MODEL: model}):
        try:
            yield
        finally:
            STAGE_SECONDS.labels(model, name).observe(time.perf_counter() - started)
