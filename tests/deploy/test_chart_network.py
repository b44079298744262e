"""Who may reach whom: the chart's NetworkPolicies, played through."""

import pytest

from tests.deploy.chart_tools import CPU_ONLY, EVERYTHING, NAMESPACE, Rendered, rendered
from tests.deploy.network import Place, Policy, passes

OUTSIDE = Place(address="93.184.215.14")
METADATA = Place(address="169.254.169.254")
PROMETHEUS = Place({"app": "prometheus"}, "monitoring")
STRANGER = Place({"app": "stranger"}, "elsewhere")
CALLER = Place({"app": "search"}, "search")
NAMES = Place({"k8s-app": "kube-dns"}, "kube-system")


@pytest.mark.parametrize(
    ("source", "target", "port", "allowed"),
    [
        ("evaluator", "embedder", 50051, True),
        ("evaluator", "openai-proxy", 50051, True),
        ("evaluator", "redis", 6379, True),
        ("evaluator", OUTSIDE, 443, True),
        ("evaluator", METADATA, 443, False),
        ("evaluator", METADATA, 80, False),
        ("evaluator", NAMES, 53, True),
        ("openai-gateway", "embedder", 50051, True),
        ("openai-gateway", "redis", 6379, False),
        ("openai-gateway", OUTSIDE, 443, False),
        ("openai-proxy", OUTSIDE, 443, True),
        ("openai-proxy", OUTSIDE, 25, False),
        ("openai-proxy", "redis", 6379, True),
        ("openai-proxy", "embedder", 50051, False),
        ("embedder", "redis", 6379, True),
        ("embedder", OUTSIDE, 443, False),
        ("embedder", "evaluator", 50051, False),
        ("embedder", "embedder", 50051, False),
        ("weights", OUTSIDE, 443, True),
        ("weights", "redis", 6379, False),
        ("test", "embedder", 50051, True),
        ("test", "evaluator", 50051, True),
        ("test", OUTSIDE, 443, False),
        ("redis", OUTSIDE, 443, False),
        (PROMETHEUS, "embedder", 9090, True),
        (PROMETHEUS, "evaluator", 9090, True),
        (PROMETHEUS, "embedder", 50051, False),
        (PROMETHEUS, "redis", 6379, False),
        (CALLER, "embedder", 50051, True),
        (CALLER, "evaluator", 50051, True),
        (CALLER, "openai-gateway", 8080, True),
        (CALLER, "embedder", 9090, False),
        (CALLER, "redis", 6379, False),
        (STRANGER, "embedder", 50051, False),
        (STRANGER, "evaluator", 50051, False),
        (STRANGER, "redis", 6379, False),
        (OUTSIDE, "openai-gateway", 8080, False),
    ],
)
def test_network_policies_let_through_what_is_needed_alone(
    source: str | Place, target: str | Place, port: int, allowed: bool
) -> None:
    chart = rendered(EVERYTHING)
    ends = [place(chart, end) if isinstance(end, str) else end for end in (source, target)]
    assert passes(policies(chart), *ends, port) is allowed


@pytest.mark.parametrize(
    ("settings", "reached"),
    [("{}", False), ('{"dataset_hosts": ["example.com"]}', True), ('{"chat_models_file": "/srv/chat.yaml"}', True)],
)
def test_the_evaluator_reaches_the_internet_if_its_settings_lead_there(settings: str, reached: bool) -> None:
    chart = rendered(CPU_ONLY, "--set-json", f"evaluator.settings={settings}")
    assert passes(policies(chart), place(chart, "evaluator"), OUTSIDE, 443) is reached


def place(chart: Rendered, component: str) -> Place:
    """Where the first pod of a component is."""
    labels = (pod["metadata"]["labels"] for pod in chart.pods())
    return Place(next(one for one in labels if one["app.kubernetes.io/component"] == component), NAMESPACE)


def policies(chart: Rendered) -> list[Policy]:
    """Those of the chart, in their namespace: what is not in it is not closed by them."""
    return [{**one, "metadata": {**one["metadata"], "namespace": NAMESPACE}} for one in chart.of("NetworkPolicy")]
