"""Rules of the house that no linter checks."""

import importlib.metadata
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_LINES = 320
HEAVY = ("torch", "transformers", "faiss", "redis", "openai", "pydantic", "click", "rich")

TIMED_IMPORT = """
import sys, time
started = time.process_time()
import asyncio, google.rpc.error_details_pb2, grpc.aio, grpc_status.rpc_status, numpy
needed = time.process_time() - started
import embedscale.client
own = time.process_time() - started - needed
print(own, needed, *sorted({name.partition(".")[0] for name in sys.modules}))
"""


@dataclass(frozen=True)
class Import:
    """Seconds of the processor that the client and its dependencies took, and what was imported."""

    own: float
    needed: float
    modules: frozenset[str]


def import_client() -> Import:
    done = subprocess.run([sys.executable, "-c", TIMED_IMPORT], capture_output=True, text=True, check=True)
    own, needed, *modules = done.stdout.split()
    return Import(float(own), float(needed), frozenset(modules))


@pytest.fixture(scope="module")
def imports_of_client() -> list[Import]:
    return [import_client() for _ in range(3)]


@pytest.mark.parametrize("tree", ["protos", "services", "clients"])
def test_embedscale_is_a_namespace_package_in_every_tree(tree: str) -> None:
    folders = [path for path in (ROOT / tree).rglob("embedscale") if path.is_dir()]
    assert ROOT / tree / "embedscale" in folders
    assert not [folder for folder in folders if (folder / "__init__.py").exists()]


def test_importing_the_client_pulls_nothing_heavy(imports_of_client: list[Import]) -> None:
    assert {"embedscale", "grpc", "numpy"} <= imports_of_client[0].modules
    assert not imports_of_client[0].modules & set(HEAVY)


def test_importing_the_client_adds_little_to_its_dependencies(imports_of_client: list[Import]) -> None:
    assert min(one.own for one in imports_of_client) < min(one.needed for one in imports_of_client)


@pytest.mark.parametrize("tree", ["services", "clients"])
def test_no_file_of_code_is_long(tree: str) -> None:
    files = [path for kind in ("py", "yaml", "toml") for path in (ROOT / tree).rglob(f"*.{kind}")]
    assert len(files) > 10
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def test_the_client_installs_without_anything_heavy() -> None:
    needed = {
        re.match(r"[\w.-]+", requirement)[0].lower()
        for requirement in importlib.metadata.requires("embedscale")
        if "extra ==" not in requirement
    }
    assert needed == {"googleapis-common-protos", "grpcio", "grpcio-status", "numpy", "protobuf"}
