"""What the formulas foretell of the same load: queue waits by queueing theory, replicas by the autoscaler's rule.

A replica is a server with one queue. The work that waits in it, in seconds, is on average that of M/G/1 (Pollaczek and
Khinchine), in whatever order it is done: residual * share / (1 - share), with residual = E[S^2] / 2 E[S] of the
requests' seconds S, and share the part of the time that the replica is busy. A load that changes is followed by the
pointwise stationary fluid flow approximation (Wang, Tipper, Banerjee, 1996):
d wait / dt = share - wait / (residual + wait). The gauge counts a batch that is being computed in full until its end:
half a batch more while the replica is busy.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.scaling.arrivals import BIN_SECONDS, Request
from benchmarks.scaling.autoscaler import SYNC_SECONDS, Autoscaler
from benchmarks.scaling.cluster import SCRAPE_SECONDS, Course, Machine, Targets, decide

_STEP_SECONDS = 1.0


@dataclass(frozen=True)
class Work:
    """Offered requests as seconds of one replica that computes `tokens_per_second`."""

    tokens_per_second: float
    batch_seconds: float
    sizes: np.ndarray
    moments: np.ndarray

    @classmethod
    def of(cls, requests: Sequence[Request], machine: Machine, tokens_per_second: float) -> "Work":
        """Sum up requests; the speed is the machine's without the padding of its batches."""
        sizes = np.array([request.size for request in requests], float)
        moments = np.array([request.moment for request in requests])
        return cls(tokens_per_second, machine.token_budget / machine.tokens_per_second, sizes, moments)

    @property
    def residual_seconds(self) -> float:
        """What is left, on average, of the request that a newcomer finds in service."""
        return float((self.sizes**2).mean() / (2 * self.sizes.mean()) / self.tokens_per_second)

    def offered(self, seconds: float) -> np.ndarray:
        """Replicas that would be busy all the time, in each interval of so many seconds."""
        tokens = np.bincount((self.moments // seconds).astype(int), self.sizes)
        return tokens / seconds / self.tokens_per_second

    def wait(self, share: float) -> float:
        """Mean of the gauge, in seconds, of a replica that is busy for a share of the time below 1."""
        return self.residual_seconds * share / (1 - share) + self.begun(share)

    def begun(self, share: float) -> float:
        """What the gauge counts and is computed already."""
        return share * self.batch_seconds / 2

    def share(self, wait: float) -> float:
        """Share of time for which a replica is busy where so much work waits."""
        return wait / (self.residual_seconds + wait)


@dataclass
class _Foreseen:
    """One replica of the formulas, as the autoscaler sees it."""

    ready_at: float
    work_seconds: float = 0.0
    waits: deque[float] = field(default_factory=deque)
    busy: deque[float] = field(default_factory=deque)


def foretold(machine: Machine, work: Work, replicas: int, autoscaler: Autoscaler, targets: Targets) -> Course:
    """Course of a cluster that begins with so many ready replicas, by the formulas alone."""
    offered = work.offered(BIN_SECONDS)
    most = machine.limit_tokens / work.tokens_per_second
    pods = [_Foreseen(0.0) for _ in range(replicas)]
    course = Course()
    for now in np.arange(_STEP_SECONDS, BIN_SECONDS * len(offered) + _STEP_SECONDS, _STEP_SECONDS):
        ready = [pod for pod in pods if pod.ready_at <= now]
        share = offered[min(int(now // BIN_SECONDS), len(offered) - 1)] / len(ready)
        for pod in ready:
            change = _STEP_SECONDS * (share - work.share(pod.work_seconds))
            pod.work_seconds = min(max(pod.work_seconds + change, 0.0), most)
        if now % SCRAPE_SECONDS == 0:
            _observe(course, float(now), pods, ready, work, round(targets.window_seconds / SCRAPE_SECONDS))
        if now % SYNC_SECONDS == 0:
            count = autoscaler.step(float(now), len(pods), decide(pods, targets))
            pods += [_Foreseen(float(now) + machine.start_seconds) for _ in range(count - len(pods))]
            del pods[count:]
    return course


def _observe(
    course: Course, now: float, pods: Sequence[_Foreseen], ready: Sequence[_Foreseen], work: Work, samples: int
) -> None:
    for pod in ready:
        share = work.share(pod.work_seconds)
        pod.waits = deque([*pod.waits, pod.work_seconds + work.begun(share)][-samples:])
        pod.busy = deque([*pod.busy, share][-samples:])
    course.moments.append(now)
    course.replicas.append(len(pods))
    course.waits.append(sum(pod.waits[-1] for pod in ready) / len(ready))
