"""Builds the images as users do, also where neither an image registry nor pip's own index is reached as usual."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.images.podman import Podman

ROOT = Path(__file__).parents[2]
BASE = re.search(r"^ARG BASE=(\S+)$", (ROOT / "deploy/docker/Dockerfile").read_text("utf-8"), re.MULTILINE)[1]
OWN_BASE = "localhost/debian:slim"
TESTED = ("evalctl", "openai-proxy", "openai-gateway", "evaluator", "embedder-cpu")


def build(podman: Podman) -> None:
    """Build all images but that for CUDA, by `make images`."""
    options = [*_base(podman), *_pip_of_this_machine(podman.root), "--isolation=chroot"]
    command = ["make", "images", "ENGINE=podman", f"IMAGES={' '.join(TESTED)}", f"IMAGE_OPTIONS={shlex.join(options)}"]
    done = subprocess.run(command, cwd=ROOT, env=podman.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def _base(podman: Podman) -> list[str]:
    """Options for a base that Debian's mirror makes, where no registry has the pinned one for us."""
    if podman.succeeds("image", "exists", BASE) or podman.succeeds("pull", "--quiet", BASE):
        return []
    if not podman.succeeds("image", "exists", OWN_BASE):
        _make_base(podman)
    # Nor is torch's own index reached then.
    return [f"--build-arg=BASE={OWN_BASE}", "--build-arg=TORCH_CPU_INDEX=https://pypi.org/simple", "--pull=never"]


def _make_base(podman: Podman) -> None:
    folder, release = podman.root / "debian", re.search(r"debian:(\w+)-", BASE)[1]
    if not (folder / "etc/os-release").exists():
        subprocess.run(["debootstrap", "--variant=minbase", release, folder], check=True, capture_output=True)
    archive = podman.root / "debian.tar"
    subprocess.run(["tar", "--create", "--file", archive, "--directory", folder, "."], check=True)
    podman("import", archive, OWN_BASE)
    archive.unlink()


def _pip_of_this_machine(root: Path) -> list[str]:
    """Options that show the build this machine's settings of pip, with the folders and certificates they name."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True)
    lines, mounts = ["[global]"], []
    for name, value in re.findall(
        r"^(?:global|:env:)\.(cert|find-links|extra-index-url|index-url)='(.*)'$", listed.stdout, re.MULTILINE
    ):
        words = value.replace("\\n", " ").split()
        places = [Path(word.removeprefix("file://")) for word in words if word.startswith(("/", "file:///"))]
        mounts += [f"--volume={place}:/host{place}:ro" for place in places]
        lines.append(f"{name} = {' '.join(re.sub(r'^(file://)?/', r'\1/host/', word) for word in words)}")
    settings = root / "pip.conf"
    settings.write_text("\n".join(dict.fromkeys(lines)) + "\n")
    return [*dict.fromkeys(mounts), f"--volume={settings}:/etc/pip.conf:ro"]
