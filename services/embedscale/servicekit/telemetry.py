"""Metrics of every server."""

from prometheus_client import Counter, Gauge, Histogram

CALLS = Counter("embedscale_calls_total", "Calls by method and status code.", ["method", "code"])
CALL_SECONDS = Histogram("embedscale_call_seconds", "Duration of calls in seconds.", ["method"])
CALLS_IN_PROGRESS = Gauge("embedscale_calls_in_progress", "Calls begun and not ended yet, by method.", ["method"])
READY = Gauge("embedscale_ready", "1 from the end of the start to the beginning of draining, 0 else.")
SERVER_INFO = Gauge("embedscale_server_info", "1, with what this server is.", ["service", "version"])
REFUSED_CALLS = Counter(
    "embedscale_refused_calls_total",
    "Calls refused before they were served, by reason: of tokens, roles or overload.",
    ["reason"],
)
