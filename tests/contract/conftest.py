"""Fixtures of evaluations: an evaluator over a real embedder and a real proxy, and the only folder that it may read."""

import http.server
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from embedscale.client import AsyncEvaluationClient
from embedscale.evaluator import bootstrap
from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.v1 import evaluation_service_pb2 as pb
from tests.conftest import served

SMALL = {
    "queries": {"q1": "Where do cats sleep?", "q2": "What do cows eat?"},
    "corpus": {"d1": "Cats sleep on sofas.", "d2": "Cows eat grass.", "d3": "Stones do nothing."},
    "relevant_docs": {"q1": ["d1"], "q2": ["d2"]},
    "mode": "text",
}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The only folder that the evaluator may read."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "small.json").write_text(json.dumps(SMALL))
    return folder


@pytest.fixture(scope="session")
def website(data: Path) -> Iterator[str]:
    """The same folder over HTTP."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(data))

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
async def evaluator(
    session_stack: AsyncExitStack, embedder: str, proxy: str, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    settings = EvaluatorSettings(
        embedding_addresses=[embedder, proxy],
        dataset_roots=[data],
        dataset_hosts=["127.0.0.1"],
        dataset_max_bytes=10**6,
        data_folder=tmp_path_factory.mktemp("imported"),
        drain_seconds=0,
    )
    return await served(session_stack, bootstrap.build(settings), settings)


@pytest.fixture
async def evaluations(evaluator: str) -> AsyncIterator[AsyncEvaluationClient]:
    async with AsyncEvaluationClient(evaluator) as opened:
        yield opened


async def finished(client: AsyncEvaluationClient, model: str, dataset: str, **options: object) -> pb.Evaluation:
    created = await client.create(model, dataset, **options)
    async for _ in client.watch(created.name):
        pass
    return await client.get(created.name)


def metric(evaluation: pb.Evaluation, name: str, cutoff: int) -> float:
    return next(m.value for m in evaluation.result.metrics if (m.name, m.cutoff) == (name, cutoff))
