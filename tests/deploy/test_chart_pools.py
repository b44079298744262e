"""Pools of the chart: their GPUs, their models and weights, and what scales them."""

import json
import re
from pathlib import Path

import pytest
import yaml

from embedscale.embedding.catalog import LocalModel, load_catalog
from tests.deploy.chart_tools import CHART, EVERYTHING, EXAMPLES, NAMESPACE, RELEASE, rendered, template
from tests.deploy.test_chart_wiring import environment, servers

DOCS = CHART.parents[2] / "docs"

each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)


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
    scaling = ("--set-json", 'embedders.pools[1].autoscaling={"kind": "hpa", "minReplicas": 1}')
    done = template("-f", EVERYTHING, *names, *scaling)
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
    done = template("-f", EVERYTHING, "--set", f"fullnameOverride={full}")
    (scaler,) = [one for one in yaml.safe_load_all(done.stdout) if one and one["kind"] == "ScaledObject"]
    (pattern,) = set(re.findall(r'pod=~"([^"]+)"', scaler["spec"]["triggers"][0]["metadata"]["query"]))
    pod = f"{full}-embedder-shared-5d9c6b7f8x-"[:58] + "x2x4z"  # as Kubernetes names it: with 63 characters at most
    assert re.fullmatch(pattern, pod)
    done = template("-f", EVERYTHING, "--set", f"fullnameOverride={full}n")
    assert "has 47: set a shorter `fullnameOverride`" in done.stderr


def test_scalers_go_by_metrics_that_there_are() -> None:
    guide, reference = (DOCS / "guide-kubernetes.md").read_text("utf-8"), (DOCS / "reference.md").read_text("utf-8")
    scalers = [
        one
        for example in EXAMPLES
        for kind in ("HorizontalPodAutoscaler", "ScaledObject")
        for one in rendered(example).of(kind)
    ]
    named = set(re.findall(r"\bembedscale_\w+", json.dumps(scalers)))
    made = set(re.findall(r"name: {as: (\w+)}", guide)) - {"embedscale_queue_wait_seconds"}
    assert made == {"embedscale_busy_share"} < named
    for name in named - made | set(re.findall(r"embedscale_tokens\w+", guide)):
        assert f"| `{name.removesuffix('_sum')}` |" in reference
