"""The processes under test: Redis, embedder, proxy, evaluator and gateway, with caches small enough to be full soon."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import httpx
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from embedscale.cli.local_cluster import free_port
from embedscale.cli.processes import Child
from tests.conftest import MINILM
from tests.fakes.faulty_upstream import DIMENSIONS
from tests.redis_servers import VALKEY

REMOTE = "remote"
LOOPBACK = "127.0.0.1"
START_SECONDS = 180.0
EMBEDDING_SERVERS = ("embedder", "openai_proxy")
_CATALOG = {
    "models": {
        REMOTE: {
            "engine": "openai", "upstream": "fake", "upstream_model": "upstream-model", "dimensions": DIMENSIONS,
            "matryoshka": [4], "max_tokens": 0,
        }
    }
}  # fmt: skip
_CACHE = ("--cache-memory-bytes", str(4 * 2**20), "--redis-timeout-seconds", "1")
_REDIS = {"bind": LOOPBACK, "save": "", "appendonly": "yes", "maxmemory": "12mb", "maxmemory-policy": "volatile-lfu"}


@dataclass
class Cluster:
    """Processes by name, in the order of their start; the upstream is ours and not under test."""

    folder: Path
    redis_port: int = field(default_factory=free_port)
    children: dict[str, Child] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    metrics_ports: dict[str, int] = field(default_factory=dict)

    @property
    def under_test(self) -> dict[str, Child]:
        return {name: child for name, child in self.children.items() if name != "upstream"}

    @property
    def redis_url(self) -> str:
        return f"redis://{LOOPBACK}:{self.redis_port}/0"

    def address(self, name: str) -> str:
        return f"{LOOPBACK}:{self.ports[name]}"

    async def start(self) -> None:
        (self.folder / "catalog.yaml").write_text(yaml.safe_dump(_CATALOG), "utf-8")
        redis = {"port": self.redis_port, "dir": self.folder, **_REDIS}
        self._spawn("redis", [VALKEY, *(part for key, value in redis.items() for part in (f"--{key}", str(value)))])
        self._spawn("upstream", self._module("tests.soak.upstream", "--port-file", str(self.folder / "upstream")))
        await self._port("upstream")
        with_redis = ("--redis-url", self.redis_url)
        self._serve("embedder", *with_redis, *_CACHE, "--models", MINILM, "--threads", "1")
        upstream = f"fake=http://{self.address('upstream')}/v1"
        catalog = ("--catalog", str(self.folder / "catalog.yaml"))
        self._serve("openai_proxy", *with_redis, *_CACHE, *catalog, "--models", REMOTE, "--upstreams", upstream)
        for name in EMBEDDING_SERVERS:
            await self._port(name)
        found = [part for name in EMBEDDING_SERVERS for part in ("--embedding-addresses", self.address(name))]
        self._serve("evaluator", *with_redis, *found, "--data-folder", str(self.folder / "datasets"))
        self._serve("openai_gateway", *found)
        for name in ("evaluator", "openai_gateway"):
            await self._port(name)
        for name in (*EMBEDDING_SERVERS, "evaluator"):
            await self._ready(name)

    async def stop(self) -> None:
        for child in reversed(self.children.values()):
            await child.stop()

    async def metrics(self, name: str) -> dict[str, float]:
        """Value of each of our series, by name and labels."""
        async with httpx.AsyncClient(trust_env=False) as client:
            text = (await client.get(f"http://{LOOPBACK}:{self.metrics_ports[name]}/metrics", timeout=30)).text
        lines = (line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("embedscale_"))
        return {series: float(value) for series, value in lines}

    def complaints(self) -> list[str]:
        """Lines of logs that no server should write, whatever callers do."""
        return [
            f"{name}: {line}"
            for name, child in self.under_test.items()
            for line in child.log.read_text("utf-8", "replace").splitlines()
            if " ERROR " in line or line.startswith("Traceback")
        ]

    def _serve(self, module: str, *options: str) -> None:
        self.metrics_ports[module] = free_port()
        where = ("--port-file", str(self.folder / module), "--metrics-port", str(self.metrics_ports[module]))
        self._spawn(module, self._module(f"embedscale.{module}", *where, "--drain-seconds", "5", *options))

    def _module(self, name: str, *options: str) -> list[str]:
        return [sys.executable, "-m", name, *options]

    def _spawn(self, name: str, command: Sequence[str]) -> None:
        environment = {
            "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "passive", "EMBEDSCALE_UPSTREAM_KEY_FAKE": "none",
        }  # fmt: skip
        self.children[name] = Child(name, command, self.folder / f"{name}.log", environment)

    async def _port(self, name: str) -> None:
        file, deadline = self.folder / name, time.monotonic() + START_SECONDS
        while not file.exists():
            self.children[name].check()
            assert time.monotonic() < deadline, f"{name} does not listen"
            await asyncio.sleep(0.05)
        self.ports[name] = int(file.read_text())

    async def _ready(self, name: str) -> None:
        async with grpc.aio.insecure_channel(self.address(name)) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch
            call = watch(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=START_SECONDS)
            async for answer in call:
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(folder)
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop()
