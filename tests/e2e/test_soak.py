"""The soak in small: the same program and the same checks, in a run that is too short to say what grows."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from tests.soak.mix import MIX

ROOT = Path(__file__).parents[2]
SEED = "669"
"""Of 1,500 requests, at least one of each kind."""


def soak(folder: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.soak", "--seed", SEED, "--json", str(folder / "soak.json"), *options]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_1500_mixed_requests_are_answered_right(tmp_path: Path) -> None:
    picture = tmp_path / "soak.png"
    process = soak(tmp_path, "--requests", "1500", "--plot", str(picture))
    told, errors = process.communicate(timeout=300)
    assert process.returncode == 0, told + errors
    found = json.loads((tmp_path / "soak.json").read_text())
    assert (found["passed"], found["done"], found["failed"], found["busy"]) == (True, 1500, 0, {})
    assert set(found["counts"]) == set(MIX)
    assert found["compared"] > 3000
    assert {series["of"] for series in found["series"]} == {
        "redis", "embedder", "openai_proxy", "evaluator", "openai_gateway", "Embed",
    }  # fmt: skip
    assert all(len(series["values"]) >= 3 for series in found["series"])
    assert {series["verdict"] for series in found["series"]} == {"too short"}
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_ctrl_c_ends_it_in_good_order_with_what_there_is(tmp_path: Path) -> None:
    process = soak(tmp_path, "--requests", "9999")
    assert process.stderr.readline().startswith("0 of 9,999 requests")
    children = psutil.Process(process.pid).children()
    assert len(children) == 6
    process.send_signal(signal.SIGINT)
    told, errors = process.communicate(timeout=300)
    assert process.returncode == 130, told + errors
    found = json.loads((tmp_path / "soak.json").read_text())
    assert (found["passed"], found["requests"]) == (True, 9999)
    assert found["done"] < 9999
    assert not [child for child in children if child.is_running()]
