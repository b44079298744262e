"""Rules of the house that no linter checks."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_LINES = 320
IMPORT_SECONDS = 0.5
HEAVY = ("torch", "transformers", "faiss", "redis", "openai", "pydantic", "click", "rich")

TIMED_IMPORT = """
import sys, time
started = time.perf_counter()
import embedscale.client
seconds = time.perf_counter() - started
print(seconds, *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def import_client() -> tuple[float, set[str]]:
    done = subprocess.run([sys.executable, "-c", TIMED_IMPORT], capture_output=True, text=True, check=True)
    seconds, *modules = done.stdout.split()
    return float(seconds), set(modules)


@pytest.fixture(scope="module")
def imports_of_client() -> list[tuple[float, set[str]]]:
    return [import_client() for _ in range(5)]


@pytest.mark.parametrize("tree", ["protos", "services", "clients"])
def test_embedscale_is_a_namespace_package_in_every_tree(tree: str) -> None:
    folders = [path for path in (ROOT / tree).rglob("embedscale") if path.is_dir()]
    assert ROOT / tree / "embedscale" in folders
    assert not [folder for folder in folders if (folder / "__init__.py").exists()]


def test_importing_the_client_pulls_nothing_heavy(imports_of_client: list[tuple[float, set[str]]]) -> None:
    for _, modules in imports_of_client:
        assert {"embedscale", "grpc", "numpy"} <= modules
        assert not modules & set(HEAVY)


def test_importing_the_client_is_quick(imports_of_client: list[tuple[float, set[str]]]) -> None:
    assert min(seconds for seconds, _ in imports_of_client) < IMPORT_SECONDS


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
