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
_NOT_IN_SLIM = ("usr/share/doc", "usr/share/info", "usr/share/locale", "usr/share/man")
_SETTING = r"^(?:global|:env:)\.(cert|find-links|extra-index-url|index-url)='(.*)'$"
_PLACE = r"^(file://)?/"


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
    """Make what Debian's slim image is, by the same means: a minimal system without documents and package caches."""
    folder, release = podman.root / "debian", re.search(r"debian:(\w+)-", BASE)[1]
    if not (folder / "etc/os-release").exists():
        subprocess.run(["debootstrap", "--variant=minbase", release, folder], check=True, capture_output=True)
    (folder / "etc/dpkg/dpkg.cfg.d/slim").write_text("".join(f"path-exclude /{place}/*\n" for place in _NOT_IN_SLIM))
    left_out = [f"--exclude=./{place}/*" for place in (*_NOT_IN_SLIM, "var/cache/apt", "var/lib/apt/lists", "var/log")]
    archive = podman.root / "debian.tar"
    subprocess.run(["tar", "--create", "--file", archive, "--directory", folder, *left_out, "."], check=True)
    podman("import", archive, OWN_BASE)
    archive.unlink()


def _pip_of_this_machine(root: Path) -> list[str]:
    """Options that show the build this machine's settings of pip, with the folders and certificates they name."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True)
    settings = dict(re.findall(_SETTING, listed.stdout, re.MULTILINE))
    words = {name: value.replace("\\n", " ").split() for name, value in settings.items()}
    named = [Path(re.sub(_PLACE, "/", word)) for values in words.values() for word in values if re.match(_PLACE, word)]
    places = {path.parent for path in named}  # an index links to what lies beside it
    inside = {name: " ".join(re.sub(_PLACE, r"\1/host/", word) for word in values) for name, values in words.items()}
    file = root / "pip.conf"
    file.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in inside.items()))
    return [*(f"--volume={place}:/host{place}:ro" for place in sorted(places)), f"--volume={file}:/etc/pip.conf:ro"]
