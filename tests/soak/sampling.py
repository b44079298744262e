"""Samples of every process each second, and the latency of Embed: the series that have to be flat."""

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import psutil
import redis.asyncio

from tests.soak.cluster import Cluster
from tests.soak.flatness import Rule

SAMPLE_SECONDS = 1.0
IDLE_SECONDS = 30.0
WINDOWS = 50
"""Parts of the run that have a median and a 99th percentile of their own."""
MIB = 2**20
MEMORY, THREADS = Rule(0.05, relative=True), Rule(2, relative=False)
CONNECTIONS = Rule(0.1, relative=True)
"""A call that is cancelled closes its connection to Redis, and pools open another when they need it."""
MEDIAN, PERCENTILE = Rule(0.25, relative=True), Rule(0.5, relative=True)
_RULES = {
    "memory, MiB": MEMORY, "file descriptors": CONNECTIONS, "threads": THREADS, "data, MiB": MEMORY,
    "clients": CONNECTIONS, "p50, ms": MEDIAN, "p99, ms": PERCENTILE,
}  # fmt: skip
_BUSY = ("calls_in_progress", "queued_inputs", "queued_tokens", "cache_pending_writes", "cache_breaker_open")


@dataclass
class Series:
    """Values of one quantity, each with how many requests were done when it was taken."""

    who: str
    what: str
    done: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    @property
    def rule(self) -> Rule:
        return _RULES[self.what]

    def add(self, done: float, value: float) -> None:
        self.done.append(done)
        self.values.append(value)


class Sampler:
    """Looks at the processes of a cluster from the outside."""

    def __init__(self, cluster: Cluster) -> None:
        self.series: dict[tuple[str, str], Series] = {}
        self._cluster = cluster
        self._processes = {name: psutil.Process(child.pid) for name, child in cluster.under_test.items()}
        self._redis = redis.asyncio.Redis.from_url(cluster.redis_url)

    async def run(self, done: Callable[[], int]) -> None:
        """Sample until cancelled. Raises CommandFailed if a process has ended."""
        while True:
            for child in self._cluster.children.values():
                child.check()
            await self.sample(done())
            await asyncio.sleep(SAMPLE_SECONDS)

    async def sample(self, done: int) -> None:
        for name, process in self._processes.items():
            with process.oneshot():
                self._add(name, "memory, MiB", done, process.memory_info().rss / MIB)
                self._add(name, "file descriptors", done, process.num_fds())
                self._add(name, "threads", done, process.num_threads())
        facts = await self._redis.info()
        self._add("redis", "data, MiB", done, facts["used_memory"] / MIB)
        self._add("redis", "clients", done, facts["connected_clients"])

    async def close(self) -> None:
        await self._redis.aclose()

    def _add(self, who: str, what: str, done: int, value: float) -> None:
        self.series.setdefault((who, what), Series(who, what)).add(done, value)


async def busy(cluster: Cluster) -> Mapping[str, float]:
    """Gauges of work under way that are not zero; waits for them to be, and a while at most."""
    left: Mapping[str, float] = {}
    for _ in range(round(IDLE_SECONDS)):
        left = {
            f"{name} {series}": value
            for name in cluster.metrics_ports
            for series, value in (await cluster.metrics(name)).items()
            if value and series.removeprefix("embedscale_").startswith(_BUSY)
        }
        if not left:
            break
        await asyncio.sleep(1.0)
    return left


def latency(embed_seconds: Sequence[tuple[int, float]], done: int) -> list[Series]:
    """Median and 99th percentile of each part of the run, in milliseconds."""
    median, percentile = Series("Embed", "p50, ms"), Series("Embed", "p99, ms")
    ends = np.linspace(0, done, WINDOWS + 1)
    at, seconds = np.array(embed_seconds, float).reshape(-1, 2).T
    for start, end in itertools.pairwise(ends):
        if len(inside := seconds[(at > start) & (at <= end)]):
            median.add(end, float(np.median(inside)) * 1000)
            percentile.add(end, float(np.percentile(inside, 99)) * 1000)
    return [median, percentile]
