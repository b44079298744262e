"""Metrics of every server."""

from prometheus_client import Counter, Histogram

CALLS = Counter("embedscale_calls_total", "Calls by method and status code.", ["method", "code"])
CALL_SECONDS = Histogram("embedscale_call_seconds", "Duration of calls in seconds.", ["method"])
