"""The life of a cluster on this machine: started, interrupted, killed, in the way of others, and shown by the demo."""

import json
import os
import signal
import socket
import sys
from pathlib import Path

import psutil
import pytest

from tests.conftest import E5, E5_LOCAL, MINILM, free_port
from tests.e2e.evalctl import PORTS, Evalctl, refused


def test_without_a_cluster_commands_say_how_to_start_one(alone: Evalctl) -> None:
    for command in (("models",), ("run", "--model", MINILM, "--dataset", "builtin:velmar/en")):
        refused(alone(*command), 2, "evalctl up --detach")
    refused(alone("down"), 2, "no cluster is up")
    address = f"127.0.0.1:{free_port()}"
    refused(alone("models", "--embedding-address", address), 3, address)
    run = ("run", "--model", MINILM, "--dataset", "builtin:velmar/en", "--evaluation-address", address)
    refused(alone(*run), 3, address)


def test_a_port_in_use_is_refused_and_nothing_is_left(alone: Evalctl) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for option in PORTS:
            refused(alone("up", option, str(port)), 2, str(port), "in use")
        refused(alone("up", "--detach", PORTS[0], str(port)), 2, str(port), "in use")
    alone.wait_until_gone()


@pytest.mark.parametrize("moment", ["redis", "embedder", "queries"])
def test_ctrl_c_in_the_middle_of_the_demo_leaves_nothing(alone: Evalctl, tmp_path: Path, moment: str) -> None:
    chart = tmp_path / "chart.png"
    process = alone.start("demo", "--chart", str(chart))
    assert any(moment in line for line in process.stdout)
    ports = alone.ports()
    assert ports
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole foreground group
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    assert not chart.exists()
    assert alone.processes() == []
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills children with their parent")
def test_children_die_with_a_parent_that_is_killed_and_a_parent_ends_with_its_child(alone: Evalctl) -> None:
    assert alone("up", "--detach", "--model", MINILM).returncode == 0
    supervisor = psutil.Process(json.loads((alone.home / "cluster.json").read_text())["pid"])
    assert len(supervisor.children()) == 5
    supervisor.kill()
    alone.wait_until_gone()
    refused(alone("models"), 2, "no cluster is up")
    process = alone.start("up", "--model", MINILM)  # what the dead one left is in nobody's way
    assert any(line.startswith("ready") for line in process.stdout)
    (victim,) = [child for child in psutil.Process(process.pid).children() if "valkey" in child.name()]
    victim.kill()
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == 3
    assert "evalctl: redis ended" in rest
    alone.wait_until_gone()


@pytest.mark.slow
def test_demo_twice_ends_in_table_and_chart_and_the_second_time_comes_from_the_cache(
    alone: Evalctl, tmp_path: Path
) -> None:
    chart = tmp_path / "chart.png"
    first, second = (alone("demo", "--chart", str(chart)) for _ in range(2))
    for run in (first, second):
        assert run.returncode == 0, run.stderr
        for language in ("en", "fr", "cs", "hu", "ko"):
            rows = [line for line in run.stdout.splitlines() if line.split()[:1] == [language]]
            assert [row.split()[1] for row in rows] == [MINILM, E5_LOCAL, E5]
        assert str(chart) in run.stdout
    assert "cache: 2160 of 2160 texts (100.0%)" in second.stdout
    assert chart.read_bytes().startswith(b"\x89PNG")
    assert alone.processes() == []
