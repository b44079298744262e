"""The chart without a cluster: linted, rendered, held against schemas of Kubernetes, and against policies."""

import json
import subprocess
from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from tests.deploy import kubernetes_schemas
from tests.deploy.chart_tools import (
    CHART,
    CPU_ONLY,
    EVERYTHING,
    EXAMPLES,
    MAKERS_OF_PODS,
    Manifest,
    each_example,
    rendered,
    run_helm,
    template,
    trivy,
)


@each_example
def test_helm_has_nothing_to_say_against_an_example(example: Path) -> None:
    done = run_helm("lint", "--strict", CHART, "-f", example)
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout
    assert "[ERROR]" not in done.stdout


@each_example
def test_all_manifests_have_names_of_their_own(example: Path) -> None:
    manifests = rendered(example).manifests
    names = [(one["kind"], one["metadata"]["name"]) for one in manifests]
    assert len(names) > 15
    assert sorted(set(names)) == sorted(names)
    assert all(len(name) <= 63 for _, name in names)


@pytest.mark.parametrize("version", kubernetes_schemas.VERSIONS)
def test_manifests_keep_to_the_schemas_of_kubernetes(version: str) -> None:
    oldest = version == kubernetes_schemas.VERSIONS[0]
    different = {json.dumps(one, sort_keys=True): one for example in EXAMPLES for one in rendered(example).manifests}
    checked = [one for one in different.values() if oldest or not kubernetes_schemas.is_custom(one)]
    assert len(checked) > 100
    assert [fault for one in checked for fault in kubernetes_schemas.faults(one, version)] == []


def test_all_kinds_of_custom_resources_are_held_against_a_schema() -> None:
    manifests = [one for example in EXAMPLES for one in rendered(example).manifests]
    kinds = {one["kind"] for one in manifests if kubernetes_schemas.is_custom(one)}
    assert kinds == {"Certificate", "GRPCRoute", "PodMonitor", "PrometheusRule", "ScaledObject", "ServiceMonitor"}


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("Deployment", ["spec", "template", "spec", "containers", 0, "livenessProbe", "grpc"]),
        ("StatefulSet", ["spec"]),
        ("HorizontalPodAutoscaler", ["spec", "metrics", 0, "pods", "target"]),
        ("NetworkPolicy", ["spec"]),
        ("Certificate", ["spec", "privateKey"]),
        ("GRPCRoute", ["spec", "rules", 0, "backendRefs", 0]),
        ("PrometheusRule", ["spec", "groups", 0]),
        ("ScaledObject", ["spec", "advanced", "horizontalPodAutoscalerConfig"]),
        ("ServiceMonitor", ["spec", "endpoints", 0]),
    ],
)
def test_a_field_that_kubernetes_does_not_know_would_be_found(kind: str, path: list[str | int]) -> None:
    manifest: Manifest = deepcopy(rendered(EVERYTHING).of(kind)[0])
    assert kubernetes_schemas.faults(manifest, "1.31") == []
    place = manifest
    for step in path:
        place = place[step]
    place["prot"] = 1
    (fault,) = kubernetes_schemas.faults(manifest, "1.31")
    assert "'prot' was unexpected" in fault


def test_every_supported_version_of_kubernetes_gets_the_same() -> None:
    oldest, newest = (template("-f", EVERYTHING, "--kube-version", one) for one in ("1.30.0", "1.37.0"))
    assert oldest.returncode == 0
    assert oldest.stdout == newest.stdout
    too_old = template("-f", EVERYTHING, "--kube-version", "1.29.9")
    assert "chart requires kubeVersion: >=1.30.0-0" in too_old.stderr


def test_an_image_volume_is_for_newer_versions() -> None:
    values = ("--set", "weights.kind=image", "--set", "weights.image.reference=registry.example.com/weights:1")
    too_old = template("-f", CPU_ONLY, *values, "--kube-version", "1.30.0")
    assert "`weights.kind: image` needs Kubernetes 1.31" in too_old.stderr
    chart = rendered(CPU_ONLY, *values, "--kube-version", "1.34.0")
    embedder = chart.one("Deployment", "-embedder-minilm")
    assert kubernetes_schemas.faults(embedder, "1.34") == []
    assert embedder["spec"]["template"]["spec"]["volumes"][-1]["image"]["reference"].endswith("/weights:1")
    assert chart.of("Job") == []


UNKNOWN = {
    "evaluator.replcas=2": "at '/evaluator': additional properties 'replcas' not allowed",
    "embedders.pools[0].device=gpu": "at '/embedders/pools/0/device': value must be one of 'cuda', 'cpu'",
    "embedders.pools[0].name=Large": "at '/embedders/pools/0/name': 'Large' does not match pattern",
    "embedders.pools[0].replicas=-1": "at '/embedders/pools/0/replicas': minimum: got -1, want 0",
    "embedders.pools[0].settings.max_inptus=9": "at '/embedders/pools/0/settings': additional properties 'max_inptus'",
    "embedders.pools[0].settings.max_inputs=0": "at '/embedders/pools/0/settings/max_inputs': minimum: got 0, want 1",
    "evaluator.settings.port=1": "at '/evaluator/settings': additional properties 'port' not allowed",
    "evaluator.settings.lease_seconds=soon": "at '/evaluator/settings/lease_seconds': got string, want number",
    "settings.log_level=loud": "at '/settings/log_level': 'loud' does not match pattern",
    "redis.maxMemory=2Gi": "at '/redis/maxMemory': '2Gi' does not match pattern",
    "weights.kind=volume": "at '/weights/kind': value must be one of 'none', 'claim', 'image'",
    "openaiProxy.upstreams.openai.url=api": "at '/openaiProxy/upstreams/openai/url': 'api' does not match pattern",
    "openaiProxy.upstreams.other.key=sk-1": "at '/openaiProxy/upstreams/other': missing property 'url'",
    "lifecycle.preStopSeconds=0": "at '/lifecycle/preStopSeconds': minimum: got 0, want 1",
}
CONTRADICTIONS = {
    "insecure=false": "choose how pods talk: `tls.secretName` (encrypted), or `insecure: true`",
    "tls.secretName=certificate": "`tls.secretName` and `insecure: true` contradict each other",
    "tls.mutual=true": "`tls.mutual` and `tls.certManager` need `tls.secretName`",
    "auth.tokensSecret=tokens": "`auth` needs `tls.secretName`: a token in plain text is everybody's",
    "embedders.pools[1].name=minilm": 'two pools are named "minilm"',
    "embedders.pools[1].name=other": 'pool "other" has no `models`',
    "embedders.pools=null": "nothing serves models: give `embedders.pools` at least one pool",
    "embedders.pools[0].autoscaling.kind=keda": "`autoscaling.keda.serverAddress` is needed: the URL of Prometheus",
    "embedders.pools[0].autoscaling.minReplicas=0": "`autoscaling.minReplicas: 0` needs `kind: keda`",
    "embedders.pools[0].autoscaling.minReplicas=9": "`autoscaling.maxReplicas` is below `minReplicas`",
    "openaiProxy.enabled=true": "`openaiProxy` needs `upstreams`",
    "openaiGateway.enabled=true": "`openaiGateway` needs `keysSecret`",
    "weights.kind=image": "`weights.kind: image` needs `weights.image.reference`",
    "grpcRoute.enabled=true": "`grpcRoute` needs `parentRefs` and `domain`",
    "redis.enabled=false,evaluator.replicas=2": "`evaluator.replicas` above 1 needs Redis",
}


def test_values_that_the_schema_does_not_have_are_all_named_at_once() -> None:
    done = template("-f", CPU_ONLY, *(word for values in UNKNOWN for word in ("--set", values)))
    assert done.returncode == 1
    assert [fault for fault in UNKNOWN.values() if fault not in done.stderr] == [], done.stderr


@pytest.mark.parametrize("values", CONTRADICTIONS, ids=lambda values: values.partition("=")[0])
def test_values_that_contradict_each_other_are_refused(values: str) -> None:
    done = template("-f", CPU_ONLY, "--set", values)
    assert done.returncode == 1
    assert CONTRADICTIONS[values] in done.stderr


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Manifest]:
    """What the policies say of each example, and of a pod that is none of ours: of pods alone but in the fullest."""
    folder = tmp_path_factory.mktemp("manifests")
    for example in EXAMPLES:
        manifests = rendered(example).manifests
        pods = [one for one in manifests if one["kind"] in ("Pod", *MAKERS_OF_PODS)]
        (folder / f"{example.stem}.yaml").write_text(
            yaml.dump_all(manifests if example == EVERYTHING else pods, Dumper=yaml.CSafeDumper)
        )
    (pod,) = deepcopy(rendered(CPU_ONLY).of("Pod"))
    pod["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    (folder / "privileged.yaml").write_text(yaml.safe_dump(pod))
    options = ["--misconfig-scanners", "kubernetes", "--skip-check-update", "--cache-dir", folder / "cache"]
    command = [trivy(), "config", "--quiet", "--format", "json", *options, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return {Path(one["Target"]).stem: one for one in json.loads(done.stdout)["Results"]}


def serious(result: Manifest) -> set[tuple[str, str]]:
    faults = result.get("Misconfigurations", [])
    return {(fault["ID"], fault["Title"]) for fault in faults if fault["Severity"] in ("HIGH", "CRITICAL")}


@each_example
def test_policies_find_nothing_serious(example: Path, judged: dict[str, Manifest]) -> None:
    result = judged[example.stem]
    assert result["MisconfSummary"]["Successes"] > 50
    assert serious(result) == set()


def test_policies_would_find_a_privileged_pod(judged: dict[str, Manifest]) -> None:
    assert {"KSV014", "KSV017"} <= {name for name, _ in serious(judged["privileged"])}
