"""Logs and Prometheus metrics."""

import logging
import time

from prometheus_client import Counter, Gauge, Histogram

CALLS = Counter("embedscale_calls_total", "Calls by method and status code.", ["method", "code"])
CALL_SECONDS = Histogram("embedscale_call_seconds", "Duration of calls in seconds.", ["method"])
REFUSED_CALLS = Counter(
    "embedscale_refused_calls_total",
    "Calls refused before they were served, by reason: of tokens, roles or overload.",
    ["reason"],
)
CACHE_HITS = Counter("embedscale_cache_hits_total", "Vectors found in the cache, by tier: memory or redis.", ["tier"])
CACHE_MISSES = Counter("embedscale_cache_misses_total", "Vectors looked up and not found in any tier.")
CACHE_ERRORS = Counter("embedscale_cache_errors_total", "Cache failures that were served around, by kind.", ["kind"])
CACHE_SECONDS = Histogram(
    "embedscale_cache_seconds",
    "Duration of operations on Redis in seconds, by operation: read, write or claim.",
    ["operation"],
    buckets=(0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0),
)
CACHE_BREAKER_OPEN = Gauge("embedscale_cache_breaker_open", "1 while Redis is passed over, 0 while it is used.")
CACHE_MEMORY_BYTES = Gauge("embedscale_cache_memory_bytes", "Bytes of vectors kept in this process.")
CACHE_PENDING_WRITES = Gauge("embedscale_cache_pending_writes", "Vectors that wait to be written to Redis.")
COALESCED_TEXTS = Counter(
    "embedscale_coalesced_texts_total",
    "Texts not computed since they were in flight, by where: process or replica.",
    ["where"],
)
TOKENS = Counter("embedscale_tokens_total", "Tokens computed or charged, by model.", ["model"])
LOADED_MODELS = Gauge("embedscale_loaded_models", "Local models in memory and ready.")
LOADED_BYTES = Gauge("embedscale_loaded_bytes", "Bytes of the weights of local models in memory or being loaded.")
MODEL_LOADS = Counter(
    "embedscale_model_loads_total", "Loads of local models, by outcome: ready or failed.", ["model", "outcome"]
)
MODEL_UNLOADS = Counter("embedscale_model_unloads_total", "Local models that left memory to make room.", ["model"])
BATCHES = Counter("embedscale_batches_total", "Batches computed, by model.", ["model"])
BATCH_TOKENS = Histogram(
    "embedscale_batch_tokens",
    "Tokens in a batch, without padding.",
    ["model"],
    buckets=(16, 64, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768),
)
PADDED_TOKENS = Counter(
    "embedscale_padded_tokens_total",
    "Tokens of batches with their padding: 1 - batch_tokens_sum / padded_tokens is the share of padding.",
    ["model"],
)
TOKEN_BUDGET = Gauge("embedscale_token_budget", "Most padded tokens in a batch, as set or as measured.", ["model"])
QUEUE_SECONDS = Histogram(
    "embedscale_queue_seconds",
    "Time that a text waits for its batch, in seconds, by priority: interactive or bulk.",
    ["model", "priority"],
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
QUEUED_TOKENS = Gauge("embedscale_queued_tokens", "Tokens that wait or are being computed, by model.", ["model"])
UPSTREAM_CALLS = Counter(
    "embedscale_upstream_calls_total",
    "Calls to upstreams, by upstream and outcome: ok or the name of an error.",
    ["upstream", "outcome"],
)
UPSTREAM_TOKENS = Counter(
    "embedscale_upstream_tokens_total",
    "Tokens charged by upstreams, by model, whether anybody still waited for them or not.",
    ["model"],
)
UPSTREAM_DOLLARS = Counter(
    "embedscale_upstream_dollars_total", "US dollars spent at upstreams, by model, at the catalog's price.", ["model"]
)
QUEUED_INPUTS = Gauge("embedscale_queued_inputs", "Inputs admitted and not answered yet.")
EVALUATIONS = Gauge(
    "embedscale_evaluations", "Evaluations that are kept, by state; queued is the length of the queue.", ["state"]
)
EVALUATION_TAKEOVERS = Counter(
    "embedscale_evaluation_takeovers_total", "Evaluations taken over from an evaluator that stopped renewing its lease."
)
EVALUATION_LEASE_LOSSES = Counter(
    "embedscale_evaluation_lease_losses_total",
    "Evaluations that this server stopped: cancelled, deleted, or taken over by another.",
)


def configure_logging(level: str) -> None:
    """Log to standard error, a line a message, in UTC."""
    logging.Formatter.converter = time.gmtime
    layout = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=level.upper(), format=layout, datefmt="%Y-%m-%dT%H:%M:%S", force=True)
    for chatty in ("httpx", "httpx2", "httpcore", "httpcore2", "openai", "transformers"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
