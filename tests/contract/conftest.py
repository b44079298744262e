"""Fixtures of evaluations (evaluators, and the only folder that they may read), of OpenAI's API, and of secrets."""

import asyncio
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from embedscale.client import AsyncEvaluationClient
from embedscale.embedding.bootstrap import build_application
from embedscale.embedding.catalog import Catalog
from embedscale.embedding.redis_store import RedisStore
from embedscale.embedding.settings import EmbeddingServerSettings
from embedscale.evaluator import bootstrap
from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.openai_gateway import bootstrap as gateway_bootstrap
from embedscale.openai_gateway.settings import GatewaySettings
from embedscale.openai_proxy import bootstrap as proxy_bootstrap
from embedscale.openai_proxy import shared_state
from embedscale.openai_proxy.settings import ProxySettings
from embedscale.openai_proxy.shared_state import SharedState
from embedscale.servicekit.redis_url import parse_redis_url
from embedscale.v1 import evaluation_service_pb2 as pb
from tests.conftest import MINILM, RedisServer, free_port, served
from tests.contract.generation import opened_evaluator, write_documents
from tests.contract.replicas import HeldEngine, Replicas
from tests.credentials import Credentials
from tests.fakes import chat_endpoint
from tests.fakes.chat_endpoint import ChatEndpoint
from tests.gguf_files import write_minilm
from tests.llama_cpp_server import TOKENS as LLAMA_TOKENS

LLAMA = "all-MiniLM-L6-v2-llama-cpp"
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
        data_folder=tmp_path_factory.mktemp("evaluator"),
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


async def gateway_of(stack: AsyncExitStack, **settings: object) -> str:
    """Serve a gateway until the stack is left; returns its address."""
    server = gateway_bootstrap.build(GatewaySettings(drain_seconds=1, **settings))
    await server.listen()
    stack.push_async_callback(server.stop)
    return f"http://127.0.0.1:{server.port}"


@pytest.fixture(scope="session")
async def gateway(session_stack: AsyncExitStack, embedder: str, proxy: str) -> str:
    """Address of OpenAI's API in front of a real embedder and a real proxy."""
    return await gateway_of(session_stack, embedding_addresses=[embedder, proxy])


@asynccontextmanager
async def llama_cpp_of(file: Path, *options: str) -> AsyncIterator[str]:
    """Base URL of llama.cpp's own OpenAI-compatible server with the model of a file."""
    port = free_port()
    command = [sys.executable, "-m", "tests.llama_cpp_server", str(file), str(port), *options]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2])
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        while not await _answers(client):
            assert process.poll() is None
            await asyncio.sleep(0.1)
    yield f"http://127.0.0.1:{port}/v1"
    process.terminate()
    process.wait()


async def _answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/health")).is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="session")
async def llama_cpp_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Base URL of such a server with all-MiniLM-L6-v2."""
    file = tmp_path_factory.mktemp("gguf") / "minilm.gguf"
    write_minilm(file)
    async with llama_cpp_of(file) as url:
        yield url


@pytest.fixture(scope="session")
async def llama_cpp(session_stack: AsyncExitStack, shared_redis: RedisServer, llama_cpp_server: str) -> str:
    """Address of a proxy in front of llama.cpp's server, with a cache."""
    settings = ProxySettings(redis_url=shared_redis.url, upstreams={"llama.cpp": llama_cpp_server}, drain_seconds=1)
    entry = {"engine": "openai", "upstream": "llama.cpp", "upstream_model": MINILM, "dimensions": 384}
    catalog = Catalog.model_validate({"models": {LLAMA: entry | {"max_tokens": LLAMA_TOKENS, "revision": "float32"}}})
    return await served(session_stack, proxy_bootstrap.build(settings, catalog), settings)


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    """Certificates and tokens of one test's own."""
    return Credentials(tmp_path / "secret")


@pytest.fixture
async def replicas(stack: AsyncExitStack, own_redis: RedisServer, tmp_path: Path) -> Replicas:
    engine = HeldEngine()
    settings = EmbeddingServerSettings(drain_seconds=0)
    embedder = await served(stack, build_application([engine], settings), settings)
    return Replicas(stack, engine, embedder, tmp_path, own_redis.url)


@pytest.fixture
def endpoint() -> Iterator[ChatEndpoint]:
    """A chat model that keeps to a script."""
    with chat_endpoint.running() as server:
        yield server


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """Folder of texts whose paragraphs are chunks."""
    return write_documents(tmp_path / "documents")


@pytest.fixture
async def opened(
    stack: AsyncExitStack, embedder: str, tmp_path: Path, endpoint: ChatEndpoint, request: pytest.FixtureRequest
) -> AsyncEvaluationClient:
    """An evaluator of the test's own; options of its chat model are the fixture's parameter."""
    return await opened_evaluator(stack, embedder, tmp_path, endpoint.url, **getattr(request, "param", {}))


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give Redis time: proxies wait for it a quarter of a second, and a busy machine may hold it up for longer."""
    monkeypatch.setattr(shared_state, "_PATIENCE_SECONDS", 5.0)


@pytest.fixture
async def state(stack: AsyncExitStack, own_redis: RedisServer) -> SharedState:
    """What proxies share, in a Redis of the test's own."""
    made = SharedState(RedisStore(parse_redis_url(own_redis.url)))
    stack.push_async_callback(made.close)
    return made
