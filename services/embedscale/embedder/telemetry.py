"""Metrics of the embedder: batches, queue, GPUs."""

from prometheus_client import Counter, Gauge, Histogram

BATCHES = Counter("embedscale_batches_total", "Batches computed, by model.", ["model"])
BATCH_TOKENS = Histogram(
    "embedscale_batch_tokens",
    "Tokens in a batch, without padding.",
    ["model"],
    buckets=(16, 64, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768),
)
BATCH_FILL = Histogram(
    "embedscale_batch_fill_ratio",
    "Tokens of a batch, with padding, by the budget of its slots: 1 is a full batch; a longer text goes above.",
    ["model"],
    buckets=(0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
)
PADDED_TOKENS = Counter(
    "embedscale_padded_tokens_total",
    "Tokens of batches with their padding: 1 - batch_tokens_sum / padded_tokens is the share of padding.",
    ["model"],
)
TOKEN_BUDGET = Gauge(
    "embedscale_token_budget", "Most padded tokens in the batch of one slot, as set or as measured.", ["model"]
)
QUEUE_SECONDS = Histogram(
    "embedscale_queue_seconds",
    "Time that a text waits for its batch, in seconds, by priority: interactive or bulk.",
    ["model", "priority"],
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
QUEUED_TOKENS = Gauge("embedscale_queued_tokens", "Tokens that wait or are being computed, by model.", ["model"])
TOKENS_PER_SECOND = Gauge(
    "embedscale_tokens_per_second", "Measured speed under load, by model, in tokens without padding.", ["model"]
)
QUEUE_WAIT = Gauge(
    "embedscale_queue_wait_seconds",
    "How long work that arrives now would wait: queued tokens / measured tokens per second, of the model where it is "
    "longest. 0 until a speed is measured. Autoscaling goes by this.",
)
GPU_MEMORY_USED = Gauge("embedscale_gpu_memory_used_bytes", "Memory in use on a GPU, by whatever process.", ["gpu"])
GPU_MEMORY_TOTAL = Gauge("embedscale_gpu_memory_total_bytes", "Memory of a GPU.", ["gpu"])
GPU_UTILIZATION = Gauge(
    "embedscale_gpu_utilization_ratio",
    "Share of the last moments in which a GPU computed; absent where its driver does not tell, as for a part of a GPU.",
    ["gpu"],
)
