"""What the chart's manifests say fits together, and fits the programs that they start."""

import math
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from embedscale.cli.contexts import Contexts
from embedscale.cli.main import main
from embedscale.embedder.settings import EmbedderSettings
from embedscale.embedding.servicer import SERVICE_NAME as EMBEDDING
from embedscale.evaluator.servicer import SERVICE_NAME as EVALUATION
from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.openai_gateway.settings import GatewaySettings
from embedscale.openai_proxy.settings import ProxySettings
from embedscale.servicekit.keys import key_variable
from embedscale.servicekit.settings import load_settings
from tests.deploy.chart_tools import (
    CHART,
    CPU_ONLY,
    EVERYTHING,
    EXAMPLES,
    NAMESPACE,
    RELEASE,
    Manifest,
    Rendered,
    rendered,
    run_helm,
    template,
)

SETTINGS = {
    "embedder": EmbedderSettings,
    "openai-proxy": ProxySettings,
    "openai-gateway": GatewaySettings,
    "evaluator": EvaluatorSettings,
}
SERVICES = {"embedder": EMBEDDING, "openai-proxy": EMBEDDING, "evaluator": EVALUATION}
FILES = "/etc/embedscale/"

each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)


def servers(chart: Rendered) -> Iterator[tuple[str, Manifest, Manifest]]:
    """Component, pod and container of each Deployment."""
    for one in chart.of("Deployment"):
        pod = one["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        yield one["metadata"]["labels"]["app.kubernetes.io/component"], pod, container


def environment(container: Manifest) -> dict[str, str]:
    """Variables as the kubelet gives them; a Secret holds the word that is its name, or a URL."""
    given: dict[str, str] = {}
    for one in container["env"]:
        assert one["name"] not in given, f"{one['name']} twice"
        if "value" in one:
            value = re.sub(r"\$\((\w+)\)", lambda match: given[match[1]], one["value"])
        elif "resourceFieldRef" in one["valueFrom"]:
            assert one["valueFrom"]["resourceFieldRef"]["resource"] == "requests.cpu"
            value = str(math.ceil(float(container["resources"]["requests"]["cpu"])))
        else:
            key = one["valueFrom"]["secretKeyRef"]
            value = "rediss://redis.example.com:6380/0" if key["key"] == "url" else key["name"]
        given[one["name"]] = value
    return given


@each_example
def test_servers_accept_the_environment_that_they_are_given(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    for component, pod, container in servers(rendered(example)):
        seen.add(component)
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
        variables = environment(container)
        with monkeypatch.context() as patch:
            patch.setattr("sys.argv", ["server"])
            for name, value in variables.items():
                if value.startswith(FILES):
                    assert str(Path(value).parent) in mounts.values(), name
                    file = tmp_path / value.removeprefix(FILES)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text("key")
                patch.setenv(name, str(file) if value.startswith(FILES) else value)
            settings = load_settings(SETTINGS[component], component)
        fields = {f"EMBEDSCALE_{name.upper()}" for name in SETTINGS[component].model_fields}
        keys = {f"{key_variable(name)}_FILE" for name in getattr(settings, "upstreams", {})}
        assert {name for name in variables if name.startswith("EMBEDSCALE_")} <= fields | keys
        assert settings.host == "0.0.0.0"
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports["metrics"] == settings.metrics_port
        assert settings.port in (ports.get("grpc"), ports.get("http"))
        assert getattr(settings, "health_port", None) == ports.get("health")
        assert pod["terminationGracePeriodSeconds"] > settings.drain_seconds + preparation(container)
    assert {"embedder", "evaluator"} <= seen


def preparation(container: Manifest) -> int:
    seconds: int = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    return seconds


@each_example
def test_probes_ask_for_what_servers_answer(example: Path) -> None:
    for component, _, container in servers(rendered(example)):
        if component not in SERVICES:
            paths = {
                name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")
            }
            assert paths == {"startup": "/livez", "readiness": "/healthz", "liveness": "/livez"}
            continue
        health = next(port["containerPort"] for port in container["ports"] if port["name"] == "health")
        for probe, service in (
            ("startup", SERVICES[component]),
            ("readiness", SERVICES[component]),
            ("liveness", "liveness"),
        ):
            assert container[f"{probe}Probe"]["grpc"] == {"port": health, "service": service}
    startup = rendered(EVERYTHING).one("Deployment", "embedder-slices")["spec"]["template"]["spec"]["containers"][0][
        "startupProbe"
    ]
    assert startup["periodSeconds"] * startup["failureThreshold"] == 30 * 60


@each_example
def test_every_selector_finds_pods_and_every_port_is_there(example: Path) -> None:
    chart = rendered(example)
    pods = chart.pods()

    def found(selector: Manifest) -> list[Manifest]:
        return [pod for pod in pods if selector.items() <= pod["metadata"]["labels"].items()]

    for kind in ("Deployment", "StatefulSet", "PodDisruptionBudget"):
        for one in chart.of(kind):
            makers = {pod["maker"] for pod in found(one["spec"]["selector"]["matchLabels"])}
            assert makers == {one["metadata"]["name"]}, "a selector that finds the pods of others"
    for service in chart.of("Service"):
        selected = found(service["spec"]["selector"])
        assert selected, service["metadata"]["name"]
        for port in service["spec"]["ports"]:
            names = {one["name"] for pod in selected for one in pod["spec"]["containers"][0]["ports"]}
            assert port["targetPort"] in names
    for kind, name in (("ServiceMonitor", "Service"), ("PodMonitor", "Pod")):
        for monitor in chart.of(kind):
            (rule,) = monitor["spec"]["selector"]["matchExpressions"]
            assert set(rule["values"]) >= set(SERVICES), name


@each_example
def test_pods_have_no_rights_that_they_do_not_need(example: Path) -> None:
    chart = rendered(example)
    accounts = {one["metadata"]["name"]: one for one in chart.of("ServiceAccount")}
    assert all(one["automountServiceAccountToken"] is False for one in accounts.values())
    for pod in (one["spec"] for one in chart.pods()):
        assert pod["serviceAccountName"] in accounts
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]


@each_example
def test_secrets_are_named_and_never_given(example: Path) -> None:
    assert rendered(example).of("Secret") == []


@each_example
def test_the_pod_of_helm_test_reads_its_context(example: Path, tmp_path: Path) -> None:
    chart = rendered(example)
    file = tmp_path / "contexts.json"
    file.write_text(
        next(one for one in chart.of("ConfigMap") if one["metadata"]["name"].endswith("-test"))["data"]["contexts.json"]
    )
    context = Contexts(file).get(Contexts(file).current)
    services = {f"dns:///{one['metadata']['name']}.{NAMESPACE}.svc.cluster.local:50051" for one in chart.of("Service")}
    assert {*context.embedding_addresses, context.evaluation_address} <= services
    assert len(context.embedding_addresses) == len(chart.values["embedders"]["pools"]) + ("openaiProxy" in chart.values)
    context.check()
    (pod,) = chart.of("Pod")
    mounted = {mount["mountPath"] for mount in pod["spec"]["containers"][0]["volumeMounts"]}
    assert {str(Path(path).parent) for path in (context.ca_file, context.token_file) if path} <= mounted


def test_helm_test_without_an_evaluator_asks_for_none() -> None:
    done = template("-f", CPU_ONLY, "--set", "evaluator.enabled=false")
    manifests = {one["kind"]: one for one in yaml.safe_load_all(done.stdout) if one}
    assert "evaluator" not in manifests["ConfigMap"]["data"]["contexts.json"]
    assert manifests["Pod"]["spec"]["containers"][0]["args"] == ["models"]


@each_example
def test_notes_have_lines_to_paste(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run_helm(
        "install", RELEASE, CHART, "--namespace", NAMESPACE, "-f", example, "--dry-run=client", "--hide-notes=false"
    )
    notes = done.stdout.partition("NOTES:")[2]
    lines = [shlex.split(line) for line in notes.splitlines() if line.strip().startswith("evalctl context set")]
    assert lines, done.stderr
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVALCTL_CONFIG", str(tmp_path / "contexts.json"))
    for name in ("ca.crt", "tls.crt", "tls.key"):
        Path(name).write_text("PEM")
    for line in lines:
        outcome = CliRunner().invoke(main, line[1:])
        assert outcome.exit_code == 0, outcome.output
        assert Contexts().get(RELEASE).evaluation_address == line[line.index("--evaluation-address") + 1]
