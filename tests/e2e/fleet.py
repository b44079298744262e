"""Servers as processes on addresses of their own, as pods are, and the requests that kubelet's probes make of them."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc

from embedscale.cli.local_cluster import free_port
from tests.conftest import MINILM

EMBEDDING = "embedscale.v1.EmbeddingService"
SERVING = health_pb2.HealthCheckResponse.SERVING
PROBE_SECONDS, PROBES = 1.0, 3
"""A probe that is not answered within a second has failed, and three such in a row count: defaults of Kubernetes."""
START_SECONDS = 180.0
END_SECONDS = 60.0
_EMBED = "/embedscale.v1.EmbeddingService/Embed"


@dataclass
class Pod:
    """One server in a process of its own."""

    module: str
    options: tuple[str, ...]
    folder: Path
    host: str = "127.0.0.1"
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.metrics_port = free_port()
        self.log = self.folder / f"{self.module}-{self.host}-{self.port}.log"
        where = ("--host", self.host, "--port", str(self.port), "--metrics-port", str(self.metrics_port))
        kept = {key: value for key, value in os.environ.items() if not key.startswith("EMBEDSCALE_")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"embedscale.{self.module}", *where, *self.options],
                stdout=log, stderr=log, env={**kept, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
            )  # fmt: skip

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    async def probe(self, service: str = "") -> str:
        """Ask as kubelet does, by a connection of its own: "serving", "not serving", or the code of a failure."""
        options = [("grpc.primary_user_agent", "kube-probe/1.37"), ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self.address, options) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            try:
                answer = await check(health_pb2.HealthCheckRequest(service=service), timeout=PROBE_SECONDS)
            except grpc.aio.AioRpcError as error:
                return error.code().name
        return "serving" if answer.status == SERVING else "not serving"

    async def state(self, service: str = "") -> str:
        """What kubelet takes it for: what the first of three probes says that is answered in time."""
        for _ in range(PROBES):
            if (told := await self.probe(service)) != "DEADLINE_EXCEEDED":
                break
        return told

    async def ready(self) -> "Pod":
        deadline = time.monotonic() + START_SECONDS
        while await self.probe() != "serving":
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            await asyncio.sleep(0.05)
        return self

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Exit status."""
        return await asyncio.to_thread(self.process.wait, END_SECONDS)

    async def calls(self) -> int:
        """Calls of Embed that it has answered."""
        return await self._metric(f'embedscale_calls_total{{code="OK",method="{_EMBED}"}}')

    async def calls_in_progress(self) -> int:
        """Calls of Embed that it has not answered yet."""
        return await self._metric(f'embedscale_calls_in_progress{{method="{_EMBED}"}}')

    async def _metric(self, series: str) -> int:
        async with httpx.AsyncClient(trust_env=False) as client:
            metrics = (await client.get(f"http://{self.host}:{self.metrics_port}/metrics", timeout=30)).text
        return sum(int(float(line.split()[-1])) for line in metrics.splitlines() if line.startswith(series))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def embedder(folder: Path, *options: str, **place: object) -> Pod:
    """An embedder that computes every answer anew."""
    fixed = ("--models", MINILM, "--token-budget", "512", "--cache-memory-bytes", "0")
    return Pod("embedder", (*fixed, *options), folder, **place)
