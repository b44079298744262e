"""Evaluators, embedders and Redis as processes of their own, killed in the middle of evaluations."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import redis

from embedscale.client import AsyncEvaluationClient, EmbeddingClient
from embedscale.evaluator import builtin
from embedscale.v1 import embedding_service_pb2 as embedding_pb
from embedscale.v1 import evaluation_service_pb2 as pb
from tests.conftest import MINILM, free_port
from tests.redis_servers import VALKEY, until

DATASETS = builtin.known()
LEASE = 2.0
START_SECONDS = 180.0


@dataclass
class Cluster:
    """Two embedders, two evaluators and a Redis with an append-only file."""

    folder: Path
    redis_port: int = field(default_factory=free_port)
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)

    @property
    def redis_url(self) -> str:
        return f"redis://127.0.0.1:{self.redis_port}/0"

    def start(self) -> None:
        self.start_redis()
        for name in ("embedder-1", "embedder-2"):
            self.serve("embedder", name, "--models", MINILM, "--cache-memory-bytes", "0")
        embedders = [part for name in ("embedder-1", "embedder-2") for part in
                     ("--embedding-addresses", self.address(name))]  # fmt: skip
        for name in ("evaluator-1", "evaluator-2"):
            options = ("--running-evaluations", "2", "--lease-seconds", str(LEASE))
            self.serve("evaluator", name, *embedders, *options)
        for name in ("embedder-1", "embedder-2"):
            until(partial(_is_ready, self.address(name)), name, START_SECONDS)
        for name in ("evaluator-1", "evaluator-2"):
            self.address(name)

    def start_redis(self) -> None:
        options = {"port": self.redis_port, "bind": "127.0.0.1", "dir": self.folder, "save": "", "appendonly": "yes",
                   "loglevel": "warning"}  # fmt: skip
        self.spawn("redis", [VALKEY, *(part for key, value in options.items() for part in (f"--{key}", str(value)))])
        with redis.Redis(port=self.redis_port) as client:
            until(client.ping, "Redis did not start", START_SECONDS)

    def serve(self, module: str, name: str, *options: str) -> None:
        common = ("--redis-url", self.redis_url, "--port-file", str(self.folder / name), "--drain-seconds", "0")
        self.spawn(name, [sys.executable, "-m", f"embedscale.{module}", *common, *options])

    def spawn(self, name: str, command: Sequence[str]) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("EMBEDSCALE_")}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, env={**kept, "OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1"}
            )

    def address(self, name: str) -> str:
        if name not in self.addresses:
            until(lambda: (self.folder / name).exists() or self.processes[name].poll(), name, START_SECONDS)
            assert self.processes[name].poll() is None, (self.folder / f"{name}.log").read_text()[-2000:]
            self.addresses[name] = f"127.0.0.1:{(self.folder / name).read_text()}"
        return self.addresses[name]

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes.pop(name).wait()

    def stop(self) -> None:
        for name in list(self.processes):
            self.kill(name)


def _is_ready(address: str) -> bool:
    with EmbeddingClient([address]) as client:
        return [model.state for model in client.models()] == [embedding_pb.MODEL_STATE_READY]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[AsyncEvaluationClient]:
    both = ",".join(cluster.address(name) for name in ("evaluator-1", "evaluator-2"))
    async with AsyncEvaluationClient(f"ipv4:{both}") as opened:
        yield opened


@dataclass
class Watched:
    """One evaluation, and every event that a watcher saw of it."""

    name: str
    events: list[pb.EvaluationEvent] = field(default_factory=list)

    async def watch(self, client: AsyncEvaluationClient) -> None:
        async for event in client.watch(self.name):
            self.events.append(event)

    @property
    def done(self) -> int:
        return sum(1 for event in self.events if event.done)

    @property
    def running(self) -> bool:
        return bool(self.events) and self.events[-1].state == pb.EVALUATION_STATE_RUNNING


async def numbers(client: AsyncEvaluationClient, name: str) -> tuple[object, ...]:
    """Everything that two runs must have in common."""
    evaluation = await client.get(name)
    assert evaluation.state == pb.EVALUATION_STATE_SUCCEEDED, evaluation.error
    result = evaluation.result
    metrics = [(m.name, m.cutoff, m.value, m.lower, m.upper) for m in result.metrics]
    rows = [
        (row.query_id, row.rank, [document.document_id for document in row.retrieved])
        async for row in client.query_results(name)
    ]
    return metrics, result.query_count, result.document_count, result.fingerprint, result.dataset_digest, rows


async def run_all(client: AsyncEvaluationClient) -> list[Watched]:
    return [Watched((await client.create(MINILM, uri, cutoffs=[1, 5])).name) for uri in DATASETS]


async def reached(what: Callable[[], object], tasks: "Sequence[asyncio.Task[None]]", seconds: float = 240.0) -> None:
    """Wait until something is so; an evaluation that ends too early for it is a fault of the test."""
    deadline = time.monotonic() + seconds
    while not what():
        for task in tasks:
            if task.done():
                task.result()
        assert time.monotonic() < deadline
        assert not all(task.done() for task in tasks), "everything ended before the next blow"
        await asyncio.sleep(0.02)


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_evaluations_survive_the_death_of_anything(cluster: Cluster, client: AsyncEvaluationClient) -> None:
    calm = await run_all(client)
    await asyncio.gather(*(one.watch(client) for one in calm))
    expected = [await numbers(client, one.name) for one in calm]
    with redis.Redis(port=cluster.redis_port) as store:
        store.flushall()  # vectors too: the same work again

    disturbed = await run_all(client)
    tasks = [asyncio.create_task(one.watch(client)) for one in disturbed]
    try:
        await reached(lambda: sum(one.done > 0 for one in disturbed) >= 2, tasks)
        cluster.kill("evaluator-1")
        await reached(lambda: any(event.attempt > 1 for one in disturbed for event in one.events), tasks)
        cluster.kill("embedder-1")
        before = sum(one.done for one in disturbed)
        await reached(lambda: sum(one.done for one in disturbed) > before + 2, tasks)
        cluster.kill("redis")
        await asyncio.sleep(1.5)
        cluster.start_redis()
        await asyncio.wait_for(asyncio.gather(*tasks), 600)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    assert [await numbers(client, one.name) for one in disturbed] == expected
    for one in disturbed:
        assert [event.sequence for event in one.events] == list(range(1, len(one.events) + 1))
        assert [event async for event in client.watch(one.name)] == one.events
        middle = len(one.events) // 2
        assert [event async for event in client.watch(one.name, middle)] == one.events[middle:]
    assert max(one.events[-1].attempt for one in disturbed) >= 2
    assert set(cluster.processes) == {"redis", "embedder-2", "evaluator-2"}
    for name in ("embedder-2", "evaluator-2"):
        assert cluster.processes[name].poll() is None
    log = (cluster.folder / "evaluator-2.log").read_text()
    assert "Traceback" not in log, log[-3000:]
