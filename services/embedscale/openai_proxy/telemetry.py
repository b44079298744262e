"""Metrics of the proxy: calls to upstreams, and what they cost."""

from prometheus_client import Counter, Gauge, Histogram

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
    "embedscale_upstream_dollars_total",
    "US dollars spent at upstreams, by model, at the catalog's price; answers that got lost may have cost theirs.",
    ["model"],
)
UPSTREAM_SECONDS = Histogram(
    "embedscale_upstream_seconds",
    "Duration of calls to upstreams in seconds, failed ones included, waits for their turn not.",
    ["upstream"],
    buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
UPSTREAM_DAY_DOLLARS = Gauge(
    "embedscale_upstream_day_dollars",
    "US dollars spent or reserved on this day (UTC), by all proxies together; only where a limit is set.",
    ["upstream"],
)
UPSTREAM_DAY_LIMIT = Gauge("embedscale_upstream_day_limit_dollars", "US dollars that a day may cost.", ["upstream"])
