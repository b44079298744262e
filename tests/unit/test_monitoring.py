"""Dashboard, alerts and metrics belong together: every query is PromQL, of metrics and labels that exist."""

import re
from collections.abc import Iterator

import prometheus_client
import promql_parser as promql
import pytest
import yaml

from tests.unit.scripts import ROOT, script

CHART = ROOT / "deploy" / "helm" / "embedscale"
OF_PROMETHEUS = {"namespace", "pod", "instance", "job", "le"}
"""Labels that scraping adds, and that histograms have."""
SCRIPT = re.compile(r"{{\s*\$(labels\.(\w+)|value)[^}]*}}")


generated = script("docs/generate_dashboard.py")
reference = script("docs/generate_reference.py")


def series() -> dict[str, set[str]]:
    """Labels by the name of every series that servers may have."""
    found: dict[str, set[str]] = {}
    for module in reference.METRICS.values():
        for collector in reference.collectors(module):
            (metric,) = collector.describe()
            suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}[metric.type]
            found |= {metric.name + suffix: set(collector._labelnames) for suffix in suffixes}
    process = prometheus_client.ProcessCollector(registry=prometheus_client.CollectorRegistry())
    return found | {sample.name: set() for metric in process.collect() for sample in metric.samples}


SERIES = series()
DASHBOARD = generated.dashboard()
ALERTS = [rule for group in yaml.safe_load((CHART / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]
GRAPHS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [
    pytest.param(target["expr"], re.findall(r"{{(\w+)}}", target["legendFormat"]), id=f"{graph['title']} {number}")
    for graph in GRAPHS
    for number, target in enumerate(graph["targets"])
] + [
    pytest.param(
        rule["expr"],
        [found[1] for text in rule["annotations"].values() for found in SCRIPT.findall(text) if found[1]],
        id=rule["alert"],
    )
    for rule in ALERTS
]


def parsed(expression: str) -> promql.Expr:
    return promql.parse(expression.replace("$__rate_interval", "5m").replace("$namespace", ".*"))


def nodes(expression: promql.Expr) -> Iterator[promql.Expr]:
    """The expression and all parts of it."""
    yield expression
    for name in ("lhs", "rhs", "expr", "param", "vector_selector"):
        if (part := getattr(expression, name, None)) is not None:
            yield from nodes(part)
    for part in getattr(expression, "args", None) or ():
        yield from nodes(part)


def selected(expression: str) -> list[promql.VectorSelector]:
    return [node for node in nodes(parsed(expression)) if isinstance(node, promql.VectorSelector)]


@pytest.mark.parametrize(("expression", "shown"), QUERIES)
def test_queries_are_of_metrics_and_labels_that_exist(expression: str, shown: list[str]) -> None:
    selectors = selected(expression)
    assert selectors
    labels = set(OF_PROMETHEUS)
    for selector in selectors:
        assert selector.name in SERIES, selector.name
        own = SERIES[selector.name] | OF_PROMETHEUS
        assert {matcher.name for matcher in selector.matchers.matchers} <= own
        labels |= own
    grouped = {label for node in nodes(parsed(expression)) for label in by(node)}
    assert grouped | set(shown) <= labels


def by(node: promql.Expr) -> list[str]:
    modifier = getattr(node, "modifier", None) if isinstance(node, promql.AggregateExpr) else None
    return list(modifier.labels) if modifier else []


def test_rates_are_of_counters_and_quantiles_of_buckets() -> None:
    for query in QUERIES:
        for node in nodes(parsed(query.values[0])):
            if isinstance(node, promql.Call) and node.func.name in ("rate", "increase"):
                name = node.args[0].vector_selector.name
                assert name.endswith(("_total", "_bucket", "_sum", "_count")), name
            if isinstance(node, promql.Call) and node.func.name == "histogram_quantile":
                assert all(
                    one.name.endswith("_bucket") for one in nodes(node) if isinstance(one, promql.VectorSelector)
                )


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {one.name for graph in GRAPHS for target in graph["targets"] for one in selected(target["expr"])}
    bases = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    ours = {re.sub(r"_(bucket|sum|count)$", "", name) for name in SERIES if name.startswith("embedscale_")}
    assert ours - bases == set()


def test_the_written_dashboard_is_the_generated_one() -> None:
    assert generated.PAGE.read_text("utf-8") == generated.page(), "run `make docs`"


def test_panels_do_not_overlap_and_have_names_and_units() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({graph["title"] + str(graph["gridPos"]) for graph in GRAPHS}) == len(GRAPHS)
    assert all(graph["fieldConfig"]["defaults"]["unit"] for graph in GRAPHS)
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == list(generated.ROWS)


def test_alerts_say_what_to_do() -> None:
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS)
    for rule in ALERTS:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert re.fullmatch(r"\d+m", rule.get("for", "1m"))
        assert set(rule["annotations"]) == {"summary", "description"}
        assert isinstance(parsed(rule["expr"]), promql.BinaryExpr | promql.Call)
