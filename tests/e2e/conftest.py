"""A cluster that is up, for tests of commands, and homes without one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import home_with_models
from tests.e2e.evalctl import Evalctl, up


@pytest.fixture(scope="session")
def evalctl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evalctl]:
    """A cluster that is up; tests leave evaluations and vectors in it, and nothing else."""
    command = Evalctl(home_with_models(tmp_path_factory.mktemp("home")))
    with up(command):
        yield command


@pytest.fixture
def alone(tmp_path: Path) -> Evalctl:
    """A home without a cluster."""
    return Evalctl(home_with_models(tmp_path / "home"))
