"""What the chart's manifests say fits together, and fits the programs that they start."""

import json
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
from embedscale.embedding.catalog import LocalModel, load_catalog
from embedscale.embedding.servicer import SERVICE_NAME as EMBEDDING
from embedscale.evaluator.servicer import SERVICE_NAME as EVALUATION
from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.openai_gateway.settings import GatewaySettings
from embedscale.openai_proxy.keys import key_variable
from embedscale.openai_proxy.settings import ProxySettings
from embedscale.servicekit.settings import load_settings
from tests.deploy.chart_tools import (
    CHART,
    EXAMPLES,
    NAMESPACE,
    RELEASE,
    Manifest,
    Rendered,
    rendered,
    run_helm,
    template,
)
from tests.deploy.network import Place, passes

SETTINGS = {
    "embedder": EmbedderSettings,
    "openai-proxy": ProxySettings,
    "openai-gateway": GatewaySettings,
    "evaluator": EvaluatorSettings,
}
SERVICES = {"embedder": EMBEDDING, "openai-proxy": EMBEDDING, "evaluator": EVALUATION}
EVERYTHING = next(example for example in EXAMPLES if example.stem == "everything")
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
def test_scalers_scale_deployments_that_leave_their_replicas_to_them(example: Path) -> None:
    chart = rendered(example)
    scaled = {
        one["spec"]["scaleTargetRef"]["name"]
        for kind in ("HorizontalPodAutoscaler", "ScaledObject")
        for one in chart.of(kind)
    }
    assert scaled == {one["metadata"]["name"] for one in chart.of("Deployment") if "replicas" not in one["spec"]}


def test_a_pool_that_is_off_is_started_by_something_else_than_its_own_queue() -> None:
    chart = rendered(next(example for example in EXAMPLES if example.stem == "ten-gpus-two-models"))
    spec = chart.one("ScaledObject", "e5-mistral")["spec"]
    queue, wanted = (trigger["metadata"] for trigger in spec["triggers"])
    assert (spec["minReplicaCount"], queue["threshold"], wanted["activationThreshold"]) == (0, "2", "0")
    name = f"{RELEASE}-embedscale-embedder-e5-mistral"
    (pattern,) = re.findall(r'pod=~"([^"]+)"', queue["query"])
    assert re.fullmatch(pattern, f"{name}-5d9c6b7f8-x2x4z")
    assert not re.fullmatch(pattern, f"{name}-large-5d9c6b7f8-x2x4z")
    assert wanted["query"] == f'sum(embedscale_evaluations{{namespace="{NAMESPACE}",state=~"queued|running"}})'


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


def test_a_gpu_is_asked_for_by_its_pools_alone() -> None:
    chart = rendered(EVERYTHING)
    limits = {
        pool: chart.one("Deployment", f"embedder-{pool}")["spec"]["template"]["spec"]["containers"][0]["resources"][
            "limits"
        ]
        for pool in ("slices", "shared", "cpu")
    }
    assert limits["slices"]["nvidia.com/mig-1g.10gb"] == 1
    assert limits["shared"]["nvidia.com/gpu.shared"] == 1
    assert limits["cpu"].keys() == {"memory"}
    pods = {pool: chart.one("Deployment", f"embedder-{pool}")["spec"]["template"]["spec"] for pool in ("slices", "cpu")}
    assert pods["slices"]["nodeSelector"]["nvidia.com/gpu.present"] == "true"
    assert "nvidia.com/gpu" in {one["key"] for one in pods["slices"]["tolerations"]}
    assert "nvidia.com/gpu.present" not in pods["cpu"]["nodeSelector"]
    assert {one["key"] for one in pods["cpu"]["tolerations"]} == {"dedicated"}


@each_example
def test_models_of_pools_are_in_the_catalog_and_on_the_volume(example: Path, tmp_path: Path) -> None:
    chart = rendered(example)
    extra = None
    for one in chart.of("ConfigMap"):
        if one["metadata"]["name"].endswith("-catalog"):
            extra = tmp_path / "models.yaml"
            extra.write_text(one["data"]["models.yaml"])
    local = {name for name, model in load_catalog(extra).models.items() if isinstance(model, LocalModel)}
    pools = chart.values["embedders"]["pools"]
    wanted = {name for pool in pools for name in pool["models"]}
    assert wanted <= local
    jobs = chart.of("Job")
    assert bool(jobs) == (chart.values.get("weights", {}).get("kind") == "claim")
    for job in jobs:
        (fetch,) = job["spec"]["template"]["spec"]["containers"]
        assert set(fetch["args"]) == wanted
        for _, pod, container in [one for one in servers(chart) if one[0] == "embedder"]:
            (wait,) = pod["initContainers"]
            assert wait["command"] == [*fetch["command"], "--wait"]
            assert wait["args"] == json.loads(environment(container)["EMBEDSCALE_MODELS"])
            places = [
                next(env["value"] for env in one["env"] if env["name"] == "HF_HOME") for one in (fetch, wait, container)
            ]
            mounts = [
                next(mount for mount in one["volumeMounts"] if mount["name"] == "weights")
                for one in (fetch, wait, container)
            ]
            assert places == [mount["mountPath"] for mount in mounts] == ["/models"] * 3
            assert [mount.get("readOnly", False) for mount in mounts] == [False, True, True]


def test_the_longest_names_are_not_too_long() -> None:
    names = ("--set", "fullnameOverride=" + "n" * 60, "--set", "embedders.pools[0].name=" + "p" * 16)
    done = template("-f", EVERYTHING, *names)
    assert done.returncode == 0, done.stderr
    longest = max((one["metadata"]["name"] for one in yaml.safe_load_all(done.stdout) if one), key=len)
    assert len(longest) == 63


def test_other_models_make_another_job() -> None:
    example = next(one for one in EXAMPLES if one.stem == "one-gpu")
    names = {
        one["metadata"]["name"]
        for value in ("bge-m3", "nomic-embed-text-v1")
        for one in yaml.safe_load_all(template("-f", example, "--set", f"embedders.pools[0].models={{{value}}}").stdout)
        if one and one["kind"] == "Job"
    }
    assert len(names) == 2


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

    def place(named: str | Place) -> Place:
        if isinstance(named, Place):
            return named
        labels = next(
            pod["metadata"]["labels"]
            for pod in chart.pods()
            if pod["metadata"]["labels"]["app.kubernetes.io/component"] == named
        )
        return Place(labels, NAMESPACE)

    # What is not in this namespace is not closed by the policies of this one.
    policies = [{**one, "metadata": {**one["metadata"], "namespace": NAMESPACE}} for one in chart.of("NetworkPolicy")]
    assert passes(policies, place(source), place(target), port) is allowed
