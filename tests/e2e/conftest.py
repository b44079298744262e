"""A cluster that is up, for tests of commands, and homes without one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import home_with_models
from tests.e2e.evalctl import Evalctl


@pytest.fixture(scope="module")
def evalctl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evalctl]:
    """A cluster that is up."""
    command = Evalctl(home_with_models(tmp_path_factory.mktemp("home")))
    started = command("up", "--detach")
    assert started.returncode == 0, started.stderr
    yield command
    stopped = command("down")
    assert (stopped.returncode, stopped.stdout) == (0, "stopped\n")
    command.wait_until_gone()


@pytest.fixture
def alone(tmp_path: Path) -> Evalctl:
    """A home without a cluster."""
    return Evalctl(home_with_models(tmp_path / "home"))
