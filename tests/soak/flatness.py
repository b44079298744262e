"""What flat means: the growth that a robust line through a series shows after the warm-up stays within a bound."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

WARM_UP = 0.2
"""Share of the requests that is not judged: pools, caches and allocators fill up."""
FEWEST_REQUESTS = 10_000
"""A shorter run says nothing about growth."""
_MOST_POINTS = 600


class Verdict(StrEnum):
    """What is said of a series."""

    FLAT = "flat"
    GROWS = "GROWS"
    TOO_SHORT = "too short"


@dataclass(frozen=True)
class Rule:
    """Most growth from the end of the warm-up to the end of the run."""

    most: float
    relative: bool
    """Whether `most` is a share of the level, which is the median, or in the series' own unit."""

    def __str__(self) -> str:
        return f"≤ {self.most:.0%}" if self.relative else f"≤ {self.most:g}"


@dataclass(frozen=True)
class Judged:
    """A series, its level and growth, and what the rule says; both NaN where the series is empty."""

    level: float
    growth: float
    rule: Rule
    verdict: Verdict

    @property
    def share(self) -> float:
        """Growth, in the rule's terms."""
        return self.growth / self.level if self.rule.relative and self.level else self.growth


def judged(done: Sequence[float], values: Sequence[float], rule: Rule) -> Judged:
    """Judge a series; `done` says how many requests were done at each of its values."""
    x, y = np.asarray(done, float), np.asarray(values, float)
    last = x[-1] if len(x) else 0.0
    settled = x >= WARM_UP * last
    x, y = x[settled], y[settled]
    if len(x) < 2:
        return Judged(np.nan, np.nan, rule, Verdict.TOO_SHORT)
    level, growth = float(np.median(y)), _slope(x, y) * float(x[-1] - x[0])
    if last < FEWEST_REQUESTS:
        return Judged(level, growth, rule, Verdict.TOO_SHORT)
    bound = rule.most * level if rule.relative else rule.most
    return Judged(level, growth, rule, Verdict.FLAT if growth <= bound else Verdict.GROWS)


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    """Theil and Sen's slope, the median of those of all pairs: a moment's peak, or a step back, does not bend it."""
    every = -(-len(x) // _MOST_POINTS)
    x, y = x[::every], y[::every]
    first, second = np.triu_indices(len(x), 1)
    apart = x[second] > x[first]
    first, second = first[apart], second[apart]
    return float(np.median((y[second] - y[first]) / (x[second] - x[first]))) if len(first) else 0.0
