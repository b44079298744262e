"""Weights are fetched from the hub at their pins, marked when all are there, and waited for."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.fakes import hub

MODEL, CODE = ("example/model", "1" * 40), ("example/code", "2" * 40)
WEIGHTS = b"weights"
FILES = {
    "config.json": json.dumps({"auto_map": {"AutoModel": "example/code--modeling.Model"}}).encode(),
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"a pickle, which is never wanted",
    "tokenizer.json": b"{}",
}


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    model = {"engine": "torch", "source": {"hub": MODEL[0], "revision": MODEL[1]}, "license": "MIT"}
    coded = {**model, "trust_remote_code": True, "code_revision": CODE[1]}
    folder = {"engine": "torch", "source": {"folder": "/nowhere"}}
    file = tmp_path / "models.yaml"
    file.write_text(yaml.safe_dump({"models": {"plain": model, "with-code": coded, "of-a-folder": folder}}))
    return file


def environment(catalog: Path, url: str = "http://127.0.0.1:9") -> Mapping[str, str]:
    given = {"HF_ENDPOINT": url, "HF_HOME": str(catalog.parent / "hub"), "EMBEDSCALE_CATALOG": str(catalog)}
    switches = {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return os.environ | given | switches


def run(*arguments: str, **given: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "embedscale.embedder.fetch", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **given)


def test_models_are_fetched_once_with_their_code_and_are_then_found_offline(catalog: Path) -> None:
    with hub.running({MODEL: FILES, CODE: {"modeling.py": b"code = 1", "README.md": b"no"}}) as server:
        wanted = ["plain", "with-code", "of-a-folder"]
        first = run(*wanted, env=environment(catalog, server.url))
        assert (first.returncode, first.stderr) == (0, "")
        sent = sorted(server.asked)
        again = run(*wanted, env=environment(catalog, server.url))
        assert again.stdout.splitlines() == ["plain is there", "with-code is there"]
        assert sorted(server.asked) == sent
    assert sent == [
        "example/code/modeling.py",
        "example/model/config.json",
        "example/model/model.safetensors",
        "example/model/tokenizer.json",
    ]
    find = (
        "from embedscale.embedder.weights import locate; from embedscale.embedding.catalog import Source;"
        f"print((locate(Source(hub={MODEL[0]!r}, revision={MODEL[1]!r})) / 'model.safetensors').read_bytes())"
    )
    offline = {**environment(catalog), "HF_HUB_OFFLINE": "1"}
    found = subprocess.run([sys.executable, "-c", find], capture_output=True, text=True, env=offline)
    assert found.stdout.strip() == str(WEIGHTS), found.stderr


def test_a_server_waits_until_the_last_file_is_there(catalog: Path) -> None:
    command = [sys.executable, "-m", "embedscale.embedder.fetch", "--wait", "plain"]
    with (
        hub.running({MODEL: FILES}) as server,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(catalog)) as waiting,
    ):
        assert waiting.stdout.readline() == "waiting for plain\n"
        server.lost = {"model.safetensors"}
        assert run("plain", env=environment(catalog, server.url)).returncode == 1
        assert waiting.poll() is None
        server.lost = set()
        assert run("plain", env=environment(catalog, server.url)).returncode == 0
        waiting.communicate(timeout=300)
        assert waiting.returncode == 0


def test_what_cannot_be_fetched_is_named(catalog: Path) -> None:
    with hub.running({}) as server:
        missing = run("plain", env=environment(catalog, server.url))
    assert missing.returncode == 1
    assert missing.stderr.startswith(f"fetch: example/model@{'1' * 40} could not be fetched: ")
    unknown = run("plain", "nothing", env=environment(catalog))
    assert unknown.returncode == 2
    assert "not local models of the catalog: nothing" in unknown.stderr
