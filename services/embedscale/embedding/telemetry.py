"""Metrics of every server that offers EmbeddingService."""

from prometheus_client import Counter, Gauge, Histogram

QUEUED_INPUTS = Gauge("embedscale_queued_inputs", "Inputs admitted and not answered yet.")
STAGE_SECONDS = Histogram(
    "embedscale_stage_seconds",
    "Time of a request in a stage, in seconds: cache (look-up); in the embedder also tokenize, queue, compute (which "
    "includes the pooling of tokens), pool (of windows to texts, with dense layers and normalisation).",
    ["model", "stage"],
    buckets=(0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
INPUTS = Counter("embedscale_inputs_total", "Inputs answered with a vector, by model.", ["model"])
TOKENS = Counter("embedscale_tokens_total", "Tokens computed or charged, by model.", ["model"])
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
LOADED_MODELS = Gauge("embedscale_loaded_models", "Local models in memory and ready.")
LOADED_BYTES = Gauge("embedscale_loaded_bytes", "Bytes of the weights of local models in memory or being loaded.")
MODEL_LOADS = Counter(
    "embedscale_model_loads_total", "Loads of local models, by outcome: ready or failed.", ["model", "outcome"]
)
MODEL_UNLOADS = Counter("embedscale_model_unloads_total", "Local models that left memory to make room.", ["model"])
