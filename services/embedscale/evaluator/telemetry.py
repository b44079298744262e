"""Metrics of the evaluator."""

from prometheus_client import Counter, Gauge

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
