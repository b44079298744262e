"""Replicas of a known speed behind the real batcher and the real admission, their clients, and their autoscaler."""

import asyncio
import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Protocol

import numpy as np

from benchmarks.scaling.arrivals import Request
from benchmarks.scaling.autoscaler import SYNC_SECONDS, Autoscaler, desired_replicas
from benchmarks.scaling.simulated_time import Clock, simulated
from embedscale.core.embedding import EngineLoad, Matrix
from embedscale.core.errors import Overloaded
from embedscale.embedder.scheduler import QueuePolicy, Scheduler
from embedscale.embedding.admission import require_room

SCRAPE_SECONDS = 5.0
DEADLINE_SECONDS = 60.0
_LONGEST_PAUSE_SECONDS = 8.0


@dataclass(frozen=True)
class Machine:
    """What one replica is: padded tokens a second and a batch, the most that wait, and how long it takes to start."""

    tokens_per_second: float
    token_budget: int = 512
    limit_tokens: int = 30_000
    start_seconds: float = 60.0


class Replica:
    """The scheduler of an embedder, whose model takes exactly as long as its padded tokens say."""

    def __init__(self, machine: Machine, clock: Clock) -> None:
        self._machine, self._clock = machine, clock
        self.ready_at = clock.now + machine.start_seconds
        self.busy_seconds = 0.0
        policy = QueuePolicy(queued_tokens=machine.limit_tokens)
        self.scheduler = Scheduler("simulated", self._compute, machine.token_budget, policy, clock)
        self.waits: deque[float] = deque()
        self.busy: deque[float] = deque()

    @property
    def ready(self) -> bool:
        """Whether its model is loaded."""
        return self._clock.now >= self.ready_at

    @property
    def load(self) -> EngineLoad:
        """As `TorchEngine` tells it."""
        return EngineLoad(self.scheduler.queued_tokens, self._machine.limit_tokens, self.scheduler.tokens_per_second)

    @property
    def queue_wait(self) -> float:
        """The gauge `embedscale_queue_wait_seconds`."""
        return self.load.queued_tokens / (self.load.tokens_per_second or float("inf"))

    async def embed(self, request: Request, remaining_seconds: float) -> None:
        """Compute a request. Raises Overloaded, and TimeoutError at the deadline."""
        require_room(self.load, request.size, remaining_seconds)
        async with asyncio.timeout(remaining_seconds):
            await self.scheduler.run([range(tokens) for tokens in request.tokens])

    def scrape(self, samples: int) -> None:
        """Keep the last samples of its gauges, as Prometheus does."""
        self.waits.append(self.queue_wait)
        self.busy.append(self.busy_seconds / SCRAPE_SECONDS)
        self.busy_seconds = 0.0
        for kept in (self.waits, self.busy):
            while len(kept) > samples:
                kept.popleft()

    def _compute(self, windows: Sequence[Sequence[int]], alone: bool) -> Matrix:
        seconds = len(windows) * max(map(len, windows)) / self._machine.tokens_per_second
        self._clock.now += seconds
        self.busy_seconds += seconds
        return np.zeros((len(windows), 1), np.float32)


@dataclass(frozen=True)
class Targets:
    """What the autoscaler holds the metrics' averages to; without a share of busy time it goes by the wait alone."""

    wait_seconds: float
    busy_share: float | None = None
    window_seconds: float = 60.0


@dataclass
class Course:
    """What was seen at each scrape: moments, replicas that exist, and the mean wait of those that are ready."""

    moments: list[float] = field(default_factory=list)
    replicas: list[int] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    late: int = 0
    refusals: int = 0


class Cluster:
    """A Deployment, its HorizontalPodAutoscaler, and clients that go to each ready replica with the same chance."""

    def __init__(self, machine: Machine, clock: Clock, replicas: int, seed: int = 1) -> None:
        self._machine, self._clock = machine, clock
        self._random = random.Random(seed)
        self.replicas = [Replica(machine, clock) for _ in range(replicas)]
        for replica in self.replicas:
            replica.ready_at = clock.now
        self._gone: list[Replica] = []
        self.course = Course()

    def scale(self, count: int) -> None:
        """Add replicas, which have to start, or take the newest away, which finish what they have."""
        while len(self.replicas) < count:
            self.replicas.append(Replica(self._machine, self._clock))
        self._gone += self.replicas[count:]
        del self.replicas[count:]

    async def serve(
        self, requests: Iterable[Request], autoscaler: Autoscaler | None = None, targets: Targets | None = None
    ) -> Course:
        """Let the requests come, and wait for the last answer."""
        watching = [asyncio.create_task(self._observe(targets))]
        if autoscaler and targets:
            watching.append(asyncio.create_task(self._autoscale(autoscaler, targets)))
        async with asyncio.TaskGroup() as callers:
            for request in requests:
                await asyncio.sleep(request.moment - self._clock.now)
                callers.create_task(self._call(request))
        for task in watching:
            task.cancel()
        for replica in [*self.replicas, *self._gone]:
            await replica.scheduler.close()
        return self.course

    async def _call(self, request: Request) -> None:
        """One caller: refused, it comes back when it was told to, until its time is over."""
        deadline = request.moment + DEADLINE_SECONDS
        pause = 0.25
        while (left := deadline - self._clock.now) > 0:
            replica = self._random.choice([replica for replica in self.replicas if replica.ready])
            try:
                await replica.embed(request, left)
            except Overloaded as error:
                self.course.refusals += 1
                await asyncio.sleep(max(error.retry_after, pause) * (1 + self._random.random() / 2))
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            except TimeoutError:
                break
            else:
                self.course.answered.append(self._clock.now - request.moment)
                return
        self.course.late += 1

    async def _observe(self, targets: Targets | None) -> None:
        samples = round((targets.window_seconds if targets else SCRAPE_SECONDS) / SCRAPE_SECONDS)
        while True:
            await asyncio.sleep(SCRAPE_SECONDS)
            ready = [replica for replica in self.replicas if replica.ready]
            for replica in ready:
                replica.scrape(samples)
            self.course.moments.append(self._clock.now)
            self.course.replicas.append(len(self.replicas))
            self.course.waits.append(sum(replica.waits[-1] for replica in ready) / len(ready))

    async def _autoscale(self, autoscaler: Autoscaler, targets: Targets) -> None:
        while True:
            await asyncio.sleep(SYNC_SECONDS)
            desired = decide(self.replicas, targets)
            self.scale(autoscaler.step(self._clock.now, len(self.replicas), desired))


class Scraped(Protocol):
    """A replica, as Prometheus knows it: the last samples of its gauges, none before it is ready."""

    waits: deque[float]
    busy: deque[float]


def decide(replicas: Sequence[Scraped], targets: Targets) -> int:
    """Desired replicas by the averages over the window; of two metrics the one that wants more counts."""
    known = [replica for replica in replicas if replica.waits]
    unready = len(replicas) - len(known)
    desired = desired_replicas([fmean(replica.waits) for replica in known], unready, targets.wait_seconds)
    if targets.busy_share is None:
        return desired
    return max(desired, desired_replicas([fmean(replica.busy) for replica in known], unready, targets.busy_share))


def serve(
    machine: Machine,
    requests: Iterable[Request],
    replicas: int,
    autoscaler: Autoscaler | None = None,
    targets: Targets | None = None,
) -> Course:
    """Simulate a cluster that begins with so many ready replicas."""
    clock = Clock()

    async def main() -> Course:
        return await Cluster(machine, clock, replicas).serve(requests, autoscaler, targets)

    course: Course = simulated(clock, main())
    return course
