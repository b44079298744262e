"""Logs and Prometheus metrics."""

import logging
import time

from prometheus_client import Counter, Gauge, Histogram

CALLS = Counter("embedscale_calls_total", "Calls by method and status code.", ["method", "code"])
CALL_SECONDS = Histogram("embedscale_call_seconds", "Duration of calls in seconds.", ["method"])
CACHE_LOOKUPS = Counter("embedscale_cache_lookups_total", "Looked-up vectors by outcome: hit or miss.", ["outcome"])
CACHE_ERRORS = Counter("embedscale_cache_errors_total", "Cache failures that were served around, by kind.", ["kind"])
TOKENS = Counter("embedscale_tokens_total", "Tokens computed or charged, by model.", ["model"])
QUEUED_INPUTS = Gauge("embedscale_queued_inputs", "Inputs admitted and not answered yet.")


def configure_logging(level: str) -> None:
    """Log to standard error, a line a message, in UTC."""
    logging.Formatter.converter = time.gmtime
    layout = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=level.upper(), format=layout, datefmt="%Y-%m-%dT%H:%M:%S", force=True)
    for chatty in ("httpx", "httpx2", "httpcore", "httpcore2", "openai", "transformers"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
