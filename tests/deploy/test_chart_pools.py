"""Pools of the chart: their GPUs, their models and weights, and what scales them."""

import json
import re
from pathlib import Path

from embedscale.embedding.catalog import Catalog, LocalModel, load_catalog
from tests.deploy.chart_tools import (
    CHART,
    EVERYTHING,
    EXAMPLES,
    NAMESPACE,
    RELEASE,
    Rendered,
    each_example,
    environment,
    rendered,
    servers,
    template,
)

DOCS = CHART.parents[2] / "docs"
ONE_GPU, TEN_GPUS = (
    next(example for example in EXAMPLES if example.stem == name) for name in ("one-gpu", "ten-gpus-two-models")
)


def test_a_gpu_is_asked_for_by_its_pools_alone() -> None:
    deployments = {name: rendered(EVERYTHING).one("Deployment", f"-{name}") for name in ("slices", "shared", "cpu")}
    pods = {name: one["spec"]["template"]["spec"] for name, one in deployments.items()}
    limits = {name: pod["containers"][0]["resources"]["limits"] for name, pod in pods.items()}
    assert limits["slices"]["nvidia.com/mig-1g.10gb"] == 1
    assert limits["shared"]["nvidia.com/gpu.shared"] == 1
    assert limits["cpu"].keys() == {"memory"}
    assert pods["slices"]["nodeSelector"]["nvidia.com/gpu.present"] == "true"
    assert "nvidia.com/gpu" in {one["key"] for one in pods["slices"]["tolerations"]}
    assert "nvidia.com/gpu.present" not in pods["cpu"]["nodeSelector"]
    assert {one["key"] for one in pods["cpu"]["tolerations"]} == {"dedicated"}


def catalog(chart: Rendered, folder: Path) -> Catalog:
    """What servers read: the shipped catalog, with the chart's laid over it."""
    extra = [one for one in chart.of("ConfigMap") if one["metadata"]["name"].endswith("-catalog")]
    for one in extra:
        (folder / "models.yaml").write_text(one["data"]["models.yaml"])
    return load_catalog(folder / "models.yaml" if extra else None)


@each_example
def test_models_are_in_the_catalog_and_remote_ones_have_an_upstream(example: Path, tmp_path: Path) -> None:
    chart = rendered(example)
    models = catalog(chart, tmp_path).models
    pools = chart.values["embedders"]["pools"]
    assert all(isinstance(models[name], LocalModel) for pool in pools for name in pool["models"])
    proxy = chart.values.get("openaiProxy", {"upstreams": {}})
    upstreams = {name: model.upstream for name, model in models.items() if not isinstance(model, LocalModel)}
    assert proxy["upstreams"].keys() <= set(upstreams.values())
    assert {upstreams[name] for name in proxy.get("models", ())} <= proxy["upstreams"].keys()


@each_example
def test_models_of_pools_are_on_the_volume(example: Path) -> None:
    chart = rendered(example)
    jobs = chart.of("Job")
    assert bool(jobs) == (chart.values.get("weights", {}).get("kind") == "claim")
    for job in jobs:
        (fetch,) = job["spec"]["template"]["spec"]["containers"]
        assert set(fetch["args"]) == {name for pool in chart.values["embedders"]["pools"] for name in pool["models"]}
        for _, pod, container in [one for one in servers(chart) if one[0] == "embedder"]:
            (wait,) = pod["initContainers"]
            assert wait["command"] == [*fetch["command"], "--wait"]
            assert wait["args"] == json.loads(environment(container)["EMBEDSCALE_MODELS"])
            readers = (fetch, wait, container)
            mounts = [next(one for one in reader["volumeMounts"] if one["name"] == "weights") for reader in readers]
            assert [environment(reader)["HF_HOME"] for reader in readers] == ["/models"] * 3
            assert [mount["mountPath"] for mount in mounts] == ["/models"] * 3
            assert [mount.get("readOnly", False) for mount in mounts] == [False, True, True]


def test_the_longest_names_are_not_too_long() -> None:
    names = ("--set", "fullnameOverride=" + "n" * 60, "--set", "embedders.pools[0].name=" + "p" * 16)
    scaling = ("--set-json", 'embedders.pools[1].autoscaling={"kind": "hpa", "minReplicas": 1}')
    longest = max((one["metadata"]["name"] for one in rendered(EVERYTHING, *names, *scaling).manifests), key=len)
    assert len(longest) == 63


def test_other_models_make_another_job() -> None:
    (fetch,) = rendered(ONE_GPU).of("Job")
    (other,) = rendered(ONE_GPU, "--set", "embedders.pools[0].models={nomic-embed-text-v1}").of("Job")
    assert fetch["metadata"]["name"] != other["metadata"]["name"]


@each_example
def test_scalers_scale_deployments_that_leave_their_replicas_to_them(example: Path) -> None:
    chart = rendered(example)
    scalers = [*chart.of("HorizontalPodAutoscaler"), *chart.of("ScaledObject")]
    scaled = {one["spec"]["scaleTargetRef"]["name"] for one in scalers}
    assert scaled == {one["metadata"]["name"] for one in chart.of("Deployment") if "replicas" not in one["spec"]}


def test_a_pool_that_is_off_is_started_by_something_else_than_its_own_queue() -> None:
    spec = rendered(TEN_GPUS).one("ScaledObject", "e5-mistral")["spec"]
    queue, busy, wanted = (trigger["metadata"] for trigger in spec["triggers"])
    assert (spec["minReplicaCount"], queue["threshold"], busy["threshold"]) == (0, "2", "0.6")
    assert wanted["activationThreshold"] == "0"
    name = f"{RELEASE}-embedscale-embedder-e5-mistral"
    (pattern,) = set(re.findall(r'pod=~"([^"]+)"', queue["query"] + busy["query"]))
    assert re.fullmatch(pattern, f"{name}-5d9c6b7f8-x2x4z")
    assert not re.fullmatch(pattern, f"{name}-large-5d9c6b7f8-x2x4z")
    assert wanted["query"] == f'sum(embedscale_evaluations{{namespace="{NAMESPACE}",state=~"queued|running"}})'


def test_keda_finds_the_pods_of_a_pool_with_a_long_name_and_longer_ones_are_refused() -> None:
    full = "n" * (46 - len("-embedder-shared"))
    (scaler,) = rendered(EVERYTHING, "--set", f"fullnameOverride={full}").of("ScaledObject")
    (pattern,) = set(re.findall(r'pod=~"([^"]+)"', scaler["spec"]["triggers"][0]["metadata"]["query"]))
    pod = f"{full}-embedder-shared-5d9c6b7f8x-"[:58] + "x2x4z"  # as Kubernetes names it: with 63 characters at most
    assert re.fullmatch(pattern, pod)
    done = template("-f", EVERYTHING, "--set", f"fullnameOverride={full}n")
    assert "has 47: set a shorter `fullnameOverride`" in done.stderr


def test_scalers_go_by_metrics_that_there_are() -> None:
    guide, reference = (DOCS / "guide-kubernetes.md").read_text("utf-8"), (DOCS / "reference.md").read_text("utf-8")
    kinds = ("HorizontalPodAutoscaler", "ScaledObject")
    scalers = [one for example in EXAMPLES for kind in kinds for one in rendered(example).of(kind)]
    named = set(re.findall(r"\bembedscale_\w+", json.dumps(scalers)))
    made = set(re.findall(r"name: {as: (\w+)}", guide)) - {"embedscale_queue_wait_seconds"}
    assert made == {"embedscale_busy_share"} < named
    for name in named - made | set(re.findall(r"embedscale_tokens\w+", guide)):
        assert f"| `{name.removesuffix('_sum')}` |" in reference
