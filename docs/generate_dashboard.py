"""Writes the Grafana dashboard from the table below: a row a subject, a panel a question. `make docs` runs it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "deploy" / "helm" / "embedscale" / "dashboards" / "embedscale.json"
_COLUMNS, _WIDTH, _HEIGHT = 24, 8, 8
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_HERE = 'namespace=~"$namespace"'


@dataclass(frozen=True)
class Panel:
    """A graph: queries by legend, in which HERE stands for the labels that choose the cluster."""

    title: str
    unit: str
    queries: Mapping[str, str]


def _quantiles(metric: str, *labels: str) -> dict[str, str]:
    legend = " ".join(f"{{{{{label}}}}}" for label in labels)
    by = ", ".join(("le", *labels))
    return {
        f"p{share} {legend}".strip(): f"histogram_quantile(0.{share}, sum by ({by}) "
        f"(rate({metric}_bucket{{HERE}}[$__rate_interval])))"
        for share in (50, 95, 99)
    }


def _rate(metric: str, *labels: str) -> dict[str, str]:
    legend = " ".join(f"{{{{{label}}}}}" for label in labels) or metric.removeprefix("embedscale_")
    by = f"by ({', '.join(labels)}) " if labels else ""
    return {legend: f"sum {by}(rate({metric}{{HERE}}[$__rate_interval]))"}


def _mean(metric: str, *labels: str) -> dict[str, str]:
    legend, by = " ".join(f"{{{{{label}}}}}" for label in labels), f"by ({', '.join(labels)}) "
    parts = (f"sum {by}(rate({metric}_{part}{{HERE}}[$__rate_interval]))" for part in ("sum", "count"))
    return {legend: " / ".join(parts)}


ROWS: Mapping[str, Sequence[Panel]] = {
    "Traffic": (
        Panel("Ready servers", "short", {
            "{{service}}": "sum by (service) (embedscale_server_info{HERE} * on (instance) embedscale_ready{HERE})"}),
        Panel("Calls", "reqps", _rate("embedscale_calls_total", "method")),
        Panel("Calls in progress", "short", {"{{method}}": "sum by (method) (embedscale_calls_in_progress{HERE})"}),
        Panel("Calls that did not succeed", "reqps", {
            "{{code}}": 'sum by (code) (rate(embedscale_calls_total{HERE, code!~"OK|2.."}[$__rate_interval]))'}),
        Panel("Calls refused before they were served", "reqps", _rate("embedscale_refused_calls_total", "reason")),
        Panel("Inputs", "short", _rate("embedscale_inputs_total", "model")),
        Panel("Tokens", "short", _rate("embedscale_tokens_total", "model")),
    ),
    "Latency": (
        Panel("Embed", "s", {
            legend: query.replace("HERE", 'HERE, method="/embedscale.v1.EmbeddingService/Embed"')
            for legend, query in _quantiles("embedscale_call_seconds").items()}),
        Panel("Calls, p95", "s", {"{{method}}": 'histogram_quantile(0.95, sum by (le, method) '
                                                '(rate(embedscale_call_seconds_bucket{HERE}[$__rate_interval])))'}),
        Panel("Mean time of a request by stage", "s", _mean("embedscale_stage_seconds", "stage")),
    ),
    "Queue": (
        Panel("Queue wait, which scales the pools", "s", {
            "{{instance}}": "embedscale_queue_wait_seconds{HERE}",
            "mean over 1 min": "avg(avg_over_time(embedscale_queue_wait_seconds{HERE}[1m]))"}),
        Panel("Wait of a text, p95", "s", {
            "{{model}} {{priority}}": "histogram_quantile(0.95, sum by (le, model, priority) "
                                      "(rate(embedscale_queue_seconds_bucket{HERE}[$__rate_interval])))"}),
        Panel("Queued tokens", "short", {"{{model}}": "sum by (model) (embedscale_queued_tokens{HERE})"}),
        Panel("Inputs not answered yet", "short", {"{{instance}}": "embedscale_queued_inputs{HERE}"}),
    ),
    "Batches": (
        Panel("Speed under load, of all replicas", "short", {
            "{{model}} tokens/s": "sum by (model) (embedscale_tokens_per_second{HERE})"}),
        Panel("Batches", "ops", _rate("embedscale_batches_total", "model")),
        Panel("Tokens in a batch", "short", {
            **_mean("embedscale_batch_tokens", "model"),
            "budget {{model}}": "max by (model) (embedscale_token_budget{HERE})"}),
        Panel("Fill, by the budget", "percentunit", _mean("embedscale_batch_fill_ratio", "model")),
        Panel("Padding, share of the tokens computed", "percentunit", {
            "{{model}}": "1 - sum by (model) (rate(embedscale_batch_tokens_sum{HERE}[$__rate_interval])) / "
                         "sum by (model) (rate(embedscale_padded_tokens_total{HERE}[$__rate_interval]))"}),
    ),
    "Cache": (
        Panel("Hits, share of vectors looked up", "percentunit", {
            "{{tier}}": "sum by (tier) (rate(embedscale_cache_hits_total{HERE}[$__rate_interval])) / "
                        "scalar(sum(rate(embedscale_cache_hits_total{HERE}[$__rate_interval])) + "
                        "sum(rate(embedscale_cache_misses_total{HERE}[$__rate_interval])))"}),
        Panel("Redis, p95", "s", {"{{operation}}": "histogram_quantile(0.95, sum by (le, operation) "
                                                   "(rate(embedscale_cache_seconds_bucket{HERE}[$__rate_interval])))"}),
        Panel("Failures that were served around", "ops", {
            **_rate("embedscale_cache_errors_total", "kind"),
            "breakers open": "sum(embedscale_cache_breaker_open{HERE})"}),
        Panel("In this memory", "bytes", {"{{instance}}": "embedscale_cache_memory_bytes{HERE}"}),
        Panel("Vectors to be written to Redis", "short", {"{{instance}}": "embedscale_cache_pending_writes{HERE}"}),
        Panel("Texts that were in flight already", "ops", _rate("embedscale_coalesced_texts_total", "where")),
    ),
    "Upstreams and cost": (
        Panel("Calls", "reqps", _rate("embedscale_upstream_calls_total", "upstream", "outcome")),
        Panel("Duration of calls", "s", _quantiles("embedscale_upstream_seconds", "upstream")),
        Panel("Tokens charged", "short", _rate("embedscale_upstream_tokens_total", "model")),
        Panel("Dollars an hour", "currencyUSD", {
            "{{model}}": "sum by (model) (increase(embedscale_upstream_dollars_total{HERE}[1h]))"}),
        Panel("Today's spending, share of the limit", "percentunit", {
            "{{upstream}}": "max by (upstream) (embedscale_upstream_day_dollars{HERE}) / "
                            "max by (upstream) (embedscale_upstream_day_limit_dollars{HERE})"}),
    ),
    "Evaluations": (
        Panel("By state", "short", {"{{state}}": "max by (state) (embedscale_evaluations{HERE})"}),
        Panel("Mean duration of a stage", "s", _mean("embedscale_evaluation_stage_seconds", "stage")),
        Panel("Progress", "ops", _rate("embedscale_evaluation_events_total")),
        Panel("Taken over, and stopped here", "short", {
            "taken over": "sum(increase(embedscale_evaluation_takeovers_total{HERE}[1h]))",
            "stopped": "sum(increase(embedscale_evaluation_lease_losses_total{HERE}[1h]))"}),
    ),
    "Language models that write questions": (
        Panel("Calls", "reqps", _rate("embedscale_chat_calls_total", "model", "outcome")),
        Panel("Tokens", "short", _rate("embedscale_chat_tokens_total", "model")),
        Panel("Dollars an hour", "currencyUSD", {
            "{{model}}": "sum by (model) (increase(embedscale_chat_dollars_total{HERE}[1h]))"}),
    ),
    "Models and GPUs": (
        Panel("GPU utilisation", "percentunit", {"{{instance}} {{gpu}}": "embedscale_gpu_utilization_ratio{HERE}"}),
        Panel("GPU memory in use", "percentunit", {
            "{{instance}} {{gpu}}": "embedscale_gpu_memory_used_bytes{HERE} / "
                                    "embedscale_gpu_memory_total_bytes{HERE}"}),
        Panel("Weights in memory", "bytes", {"{{instance}}": "embedscale_loaded_bytes{HERE}"}),
        Panel("Models in memory", "short", {"{{instance}}": "embedscale_loaded_models{HERE}"}),
        Panel("Loads and unloads an hour", "short", {
            "{{model}} {{outcome}}": "sum by (model, outcome) (increase(embedscale_model_loads_total{HERE}[1h]))",
            "{{model}} unloaded": "sum by (model) (increase(embedscale_model_unloads_total{HERE}[1h]))"}),
    ),
    "Processes": (
        Panel("Processor time", "short", {
            "{{instance}}": "rate(process_cpu_seconds_total{HERE}[$__rate_interval]) "
                            "and on (instance) embedscale_server_info{HERE}"}),
        Panel("Memory", "bytes", {
            "{{instance}}": "process_resident_memory_bytes{HERE} and on (instance) embedscale_server_info{HERE}"}),
        Panel("Open files and connections", "short", {
            "{{instance}}": "process_open_fds{HERE} and on (instance) embedscale_server_info{HERE}"}),
        Panel("Versions", "short", {"{{service}} {{version}}": "count by (service, version) "
                                                               "(embedscale_server_info{HERE})"}),
    ),
}  # fmt: skip


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    return {
        "uid": "embedscale",
        "title": "Embedscale",
        "tags": ["embedscale"],
        "schemaVersion": 39,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_variable("datasource", "datasource", "prometheus"), _namespaces()]},
        "panels": [panel | {"id": number} for number, panel in enumerate(_panels(), 1)],
    }


def _variable(name: str, kind: str, query: object) -> dict[str, Any]:
    return {"name": name, "type": kind, "query": query, "label": name.capitalize()}


def _namespaces() -> dict[str, Any]:
    query = {"query": "label_values(embedscale_ready, namespace)", "refId": "namespaces"}
    return _variable("namespace", "query", query) | {
        "datasource": _SOURCE, "refresh": 2, "includeAll": True, "allValue": ".*", "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }  # fmt: skip


def _panels() -> Iterator[dict[str, Any]]:
    top = 0
    for title, panels in ROWS.items():
        yield {"type": "row", "title": title, "gridPos": {"x": 0, "y": top, "w": _COLUMNS, "h": 1}, "panels": []}
        top += 1
        for place, panel in enumerate(panels):
            down, left = divmod(place * _WIDTH, _COLUMNS)
            yield _graph(panel, {"x": left, "y": top + down * _HEIGHT, "w": _WIDTH, "h": _HEIGHT})
        top += -(-len(panels) * _WIDTH // _COLUMNS) * _HEIGHT


def _graph(panel: Panel, place: Mapping[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + number), "expr": query.replace("HERE", _HERE), "legendFormat": legend}
        for number, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "type": "timeseries",
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": dict(place),
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }


def page() -> str:
    """The whole file."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), "utf-8")
