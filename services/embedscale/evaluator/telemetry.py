"""Metrics of the evaluator."""

from prometheus_client import Counter, Gauge, Histogram

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
EVALUATION_EVENTS = Counter(
    "embedscale_evaluation_events_total", "Events of progress that this server recorded; what is stuck makes none."
)
EVALUATION_STAGE_SECONDS = Histogram(
    "embedscale_evaluation_stage_seconds",
    "Duration of the stages of evaluations in seconds: read_dataset, embed_corpus, score_queries, sweep_indexes.",
    ["stage"],
    buckets=(0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 1800, 3600, 14400),
)
CHAT_CALLS = Counter(
    "embedscale_chat_calls_total",
    "Calls to language models that write questions, by catalog name and outcome: ok or the name of an error.",
    ["model", "outcome"],
)
CHAT_TOKENS = Counter("embedscale_chat_tokens_total", "Tokens of their prompts and answers.", ["model"])
CHAT_DOLLARS = Counter("embedscale_chat_dollars_total", "US dollars they cost, at the catalog's price.", ["model"])
