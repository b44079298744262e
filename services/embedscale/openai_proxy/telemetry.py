"""Metrics of the proxy: calls to upstreams, and what they cost."""

from prometheus_client import Counter

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
