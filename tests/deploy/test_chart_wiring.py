"""What the chart's manifests say fits together, and fits the programs that they start."""

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from embedscale.cli.contexts import Contexts
from embedscale.cli.main import main
from embedscale.embedding.servicer import SERVICE_NAME as EMBEDDING
from embedscale.evaluator.servicer import SERVICE_NAME as EVALUATION
from embedscale.servicekit.keys import key_variable
from embedscale.servicekit.settings import load_settings
from tests.deploy.chart_tools import (
    CHART,
    CPU_ONLY,
    EVERYTHING,
    NAMESPACE,
    RELEASE,
    Manifest,
    each_example,
    environment,
    rendered,
    run_helm,
    servers,
)
from tests.deploy.roles import SETTINGS, unknown

SERVICES = {"embedder": EMBEDDING, "openai-proxy": EMBEDDING, "evaluator": EVALUATION}
FILES = "/etc/embedscale/"


@each_example
def test_servers_accept_the_environment_that_they_are_given(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    for component, pod, container in servers(rendered(example)):
        seen.add(component)
        role = container["image"].rpartition("/")[2].partition(":")[0]
        assert role.startswith(component)
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
            settings = load_settings(SETTINGS[role], component)
        keys = {f"{key_variable(name)}_FILE" for name in getattr(settings, "upstreams", {})}
        assert set(unknown(SETTINGS[role], (name for name in variables if name.startswith("EMBEDSCALE_")))) <= keys
        assert settings.host == "0.0.0.0"
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports["metrics"] == settings.metrics_port
        assert settings.port in (ports.get("grpc"), ports.get("http"))
        assert getattr(settings, "health_port", None) == ports.get("health")
        preparation = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pod["terminationGracePeriodSeconds"] > settings.drain_seconds + preparation
    assert {"embedder", "evaluator"} <= seen


@each_example
def test_probes_ask_for_what_servers_answer(example: Path) -> None:
    for component, _, container in servers(rendered(example)):
        probes = {name: container[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}
        if component == "openai-gateway":
            paths = {name: probe["httpGet"]["path"] for name, probe in probes.items()}
            assert paths == {"startup": "/livez", "readiness": "/healthz", "liveness": "/livez"}
            continue
        health = next(port["containerPort"] for port in container["ports"] if port["name"] == "health")
        service = SERVICES[component]
        for name, asked in (("startup", service), ("readiness", service), ("liveness", "liveness")):
            assert probes[name]["grpc"] == {"port": health, "service": asked}


@each_example
def test_no_rollout_has_failed_while_a_pod_may_still_start(example: Path) -> None:
    for one in rendered(example).of("Deployment"):
        (container,) = one["spec"]["template"]["spec"]["containers"]
        probe = container["startupProbe"]
        assert one["spec"]["progressDeadlineSeconds"] > probe["periodSeconds"] * probe["failureThreshold"]


def test_a_pod_may_start_for_as_long_as_its_pool_says() -> None:
    (container,) = rendered(EVERYTHING).one("Deployment", "embedder-slices")["spec"]["template"]["spec"]["containers"]
    assert container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"] == 30 * 60


@each_example
def test_every_selector_finds_pods_and_every_port_is_there(example: Path) -> None:
    chart = rendered(example)
    pods = chart.pods()

    def found(selector: Manifest) -> list[Manifest]:
        return [pod for pod in pods if selector.items() <= pod["metadata"]["labels"].items()]

    def ports(pod: Manifest) -> set[str]:
        return {one["name"] for one in pod["spec"]["containers"][0].get("ports", [])}

    for kind in ("Deployment", "StatefulSet", "PodDisruptionBudget"):
        for one in chart.of(kind):
            makers = {pod["maker"] for pod in found(one["spec"]["selector"]["matchLabels"])}
            assert makers == {one["metadata"]["name"]}, "a selector that finds the pods of others"
    for service in chart.of("Service"):
        selected = found(service["spec"]["selector"])
        assert selected, service["metadata"]["name"]
        for port in service["spec"]["ports"]:
            assert all(port["targetPort"] in ports(pod) for pod in selected)
    for monitor in (*chart.of("ServiceMonitor"), *chart.of("PodMonitor")):
        (rule,) = monitor["spec"]["selector"]["matchExpressions"]
        selected = found(monitor["spec"]["selector"]["matchLabels"])
        chosen = [pod for pod in selected if pod["metadata"]["labels"][rule["key"]] in rule["values"]]
        assert {pod["maker"] for pod in chosen} == {one["metadata"]["name"] for one in chart.of("Deployment")}
        (endpoint,) = monitor["spec"].get("podMetricsEndpoints") or monitor["spec"]["endpoints"]
        assert all(endpoint["port"] in ports(pod) for pod in chosen)


@each_example
def test_pods_have_no_rights_that_they_do_not_need(example: Path) -> None:
    chart = rendered(example)
    accounts = {one["metadata"]["name"]: one for one in chart.of("ServiceAccount")}
    assert all(one["automountServiceAccountToken"] is False for one in accounts.values())
    pods = [one["spec"] for one in chart.pods()]
    assert {pod["serviceAccountName"] for pod in pods} == accounts.keys()
    for pod in pods:
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


def test_all_pods_have_what_values_give_to_all() -> None:
    chart = rendered(EVERYTHING)
    given = chart.values["pods"]
    for pod in chart.pods():
        spec, metadata = pod["spec"], pod["metadata"]
        assert given["labels"].items() <= metadata["labels"].items()
        assert given["annotations"].items() <= metadata["annotations"].items()
        assert given["nodeSelector"].items() <= spec["nodeSelector"].items()
        assert given["tolerations"][0] in spec["tolerations"]
        assert spec["affinity"] == given["affinity"]
        own = "latency" if pod.get("maker", "").endswith("-slices") else given["priorityClassName"]
        assert spec["priorityClassName"] == own


def test_servers_and_the_job_for_weights_have_what_values_add() -> None:
    chart = rendered(EVERYTHING)
    given = chart.values["pods"]
    for one in (*chart.of("Deployment"), *chart.of("Job")):
        spec = one["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        assert given["extraEnv"][0] in container["env"]
        assert given["extraVolumes"][0] in spec["volumes"]
        assert given["extraVolumeMounts"][0] in container["volumeMounts"]


@each_example
def test_secrets_are_named_and_never_given(example: Path) -> None:
    assert rendered(example).of("Secret") == []


@each_example
def test_the_pod_of_helm_test_reads_its_context(example: Path, tmp_path: Path) -> None:
    chart = rendered(example)
    file = tmp_path / "contexts.json"
    file.write_text(chart.one("ConfigMap", "-test")["data"]["contexts.json"])
    context = Contexts(file).get(Contexts(file).current)
    services = {f"dns:///{one['metadata']['name']}.{NAMESPACE}.svc.cluster.local:50051" for one in chart.of("Service")}
    assert {*context.embedding_addresses, context.evaluation_address} <= services
    assert len(context.embedding_addresses) == len(chart.values["embedders"]["pools"]) + ("openaiProxy" in chart.values)
    context.check()
    (pod,) = chart.of("Pod")
    (container,) = pod["spec"]["containers"]
    assert container["args"] == ["doctor"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["spec"]["volumes"]}
    read = (environment(container)["EVALCTL_CONFIG"], context.ca_file, context.certificate_file, context.token_file)
    assert {str(Path(path).parent) for path in read if path} <= set(mounts.values())


def test_nothing_is_there_for_an_evaluator_that_is_off() -> None:
    chart = rendered(CPU_ONLY, "--set", "evaluator.enabled=false")
    assert [one["metadata"]["name"] for one in chart.manifests if "evaluator" in one["metadata"]["name"]] == []
    assert "evaluat" not in chart.one("ConfigMap", "-test")["data"]["contexts.json"]


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
