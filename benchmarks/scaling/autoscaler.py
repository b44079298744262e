"""What Kubernetes' HorizontalPodAutoscaler decides, by the rules of its documentation.

https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/ (algorithm details, configurable behavior)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

SYNC_SECONDS = 15.0
TOLERANCE = 0.1


def desired_replicas(values: Sequence[float], unready: int, target: float) -> int:
    """Replicas at which a metric averages `target`, were it in inverse proportion to their number.

    ceil(replicas * average / target), or as many as there are within the tolerance. Replicas that are not ready yet
    count with 0 where there should be more, and not at all where there should be fewer.
    """
    replicas = len(values) + unready
    if not values:
        return replicas
    ratio = sum(values) / len(values) / target
    if not unready or ratio <= 1:
        return replicas if abs(ratio - 1) <= TOLERANCE else math.ceil(ratio * len(values))
    damped = sum(values) / replicas / target
    return replicas if damped <= 1 + TOLERANCE else max(math.ceil(damped * replicas), replicas)


@dataclass(frozen=True)
class Behavior:
    """One direction: the window in seconds in which recommendations are remembered, and the most change in a period.

    The larger of `replicas` and `percent` of them is allowed.
    """

    window_seconds: float
    percent: float = 100.0
    replicas: int = 0
    period_seconds: float = 15.0


UP = Behavior(0.0, replicas=4)
DOWN = Behavior(300.0)
"""The defaults of Kubernetes."""


@dataclass
class Autoscaler:
    """Turns desired numbers of replicas into steps."""

    minimum: int
    maximum: int
    up: Behavior = UP
    down: Behavior = DOWN
    _desired: list[tuple[float, int]] = field(default_factory=list)
    _changes: list[tuple[float, int]] = field(default_factory=list)

    def step(self, now: float, current: int, desired: int) -> int:
        """Number of replicas from now on; asked each `SYNC_SECONDS`."""
        self._desired.append((now, desired))
        most = max(self._since(now - self.down.window_seconds))
        least = min(self._since(now - self.up.window_seconds))
        wanted = min(max(current, least), most)
        chosen = min(max(self._within_pace(now, current, wanted), self.minimum), self.maximum)
        self._changes.append((now, chosen - current))
        return chosen

    def _since(self, moment: float) -> list[int]:
        return [desired for at, desired in self._desired if at >= moment]

    def _within_pace(self, now: float, current: int, wanted: int) -> int:
        if wanted > current:
            before = current - self._changed(now - self.up.period_seconds, +1)
            allowed = max(before + self.up.replicas, math.ceil(before * (1 + self.up.percent / 100)))
            return max(min(wanted, allowed), current)
        before = current - self._changed(now - self.down.period_seconds, -1)
        allowed = min(before - self.down.replicas, math.floor(before * (1 - self.down.percent / 100)))
        return min(max(wanted, allowed), current)

    def _changed(self, moment: float, sign: int) -> int:
        return sum(change for at, change in self._changes if at > moment and change * sign > 0)
