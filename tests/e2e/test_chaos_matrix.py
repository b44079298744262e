"""Two cells of `make chaos`, for real: the program that strikes everything in every way is itself kept working."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.redis_servers import until

ROOT = Path(__file__).parents[2]
QUICK = ("--scale", "0.05", "--seed", "3")


@pytest.mark.slow
def test_two_cells_hold(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    cells = ("redis/sigkill/embedding", "evaluator/restart/evaluation", "upstream/disk-full")
    outputs = ("--json", str(file), "--picture", str(tmp_path / "matrix.png"))
    command = [sys.executable, "-m", "tests.chaos", *cells, *QUICK, *outputs]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {_name(one["cell"]): one for one in json.loads(file.read_text())["found"]}
    ran = [found[name] for name in cells[:2]]
    assert all(one["verdict"] in ("held", "refused") for one in ran)
    assert all(one["fault_seconds"] > 0 and not one["lost"] and not one["differed"] for one in ran)
    left_out = [one for name, one in found.items() if name.startswith(cells[2])]
    assert [one["verdict"] for one in left_out] == ["left out"] * 3
    assert (tmp_path / "matrix.png").stat().st_size > 10_000


def test_who_interrupts_it_finds_nothing_left(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.chaos", "redis/sigkill/embedding", *QUICK]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline().startswith("seed 3")
    chaos = psutil.Process(process.pid)
    until(lambda: len(chaos.children()) > 2, "nothing is started")  # some services, and not yet all
    children = chaos.children(recursive=True)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert psutil.wait_procs(children, timeout=30)[1] == []
    namespaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    assert f"es{process.pid}-" not in namespaces


def _name(cell: dict[str, str]) -> str:
    return f"{cell['target']}/{cell['fault']}/{cell['activity']}"
