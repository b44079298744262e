"""The images, built once, and what runs in them."""

import os
import shutil
import time
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.images.building import ROOT, build
from tests.images.podman import Podman

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
NETWORK = "embedscale"
READY_SECONDS = 180


@pytest.fixture(scope="session")
def podman() -> Podman:
    """podman with the images, kept in .images or $IMAGES_ROOT for the next time."""
    if not shutil.which("podman"):
        pytest.fail("podman is needed; where no image registry is reached, debootstrap too")
    podman = Podman(Path(os.environ.get("IMAGES_ROOT", ROOT / ".images")).absolute())
    build(podman)
    if not podman.succeeds("network", "exists", NETWORK):
        podman("network", "create", NETWORK)
    return podman


def image(role: str) -> str:
    return f"localhost/embedscale/{role}:{VERSION}"


def serve(stack: ExitStack, podman: Podman, role: str, *options: str, **settings: str) -> str:
    """Run a server until the stack is left; returns its name once it says that it is ready, as Compose asks."""
    given = {"insecure": "true", **settings}
    variables = [f"--env=EMBEDSCALE_{name.upper()}={value}" for name, value in given.items()]
    network = [f"--network={NETWORK}", f"--network-alias={role}", "--publish=127.0.0.1::50051"]
    name = stack.enter_context(podman.container(image(role), *network, *variables, *options))
    await_health(podman, name)
    return name


def await_health(podman: Podman, name: str, port: int = 50051) -> None:
    check = ("python", "-m", "embedscale.servicekit.healthcheck", f"127.0.0.1:{port}")
    deadline = time.monotonic() + READY_SECONDS
    while not podman.succeeds("exec", name, *check):
        assert podman("inspect", "--format={{.State.Running}}", name) == "true", podman("logs", name)
        assert time.monotonic() < deadline, podman("logs", name)
        time.sleep(0.3)


@pytest.fixture(scope="session")
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="session")
def embedder_container(podman: Podman, stack: ExitStack) -> str:
    return serve(stack, podman, "embedder-cpu", "--memory=2g")
