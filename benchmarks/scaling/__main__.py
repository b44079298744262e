"""Whether the autoscaler's signal is right: the recorded arrivals through the real batcher, against the formulas.

    python -m benchmarks.scaling [--quick] [--json FILE]

Time is simulated, so that the machine it runs on does not matter. The replica is small, so that the record needs few
requests: tokens a second, a batch and the queue's limit may be multiplied by the same number, and nothing changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.common import ROOT, Goal, Report, arguments, table
from benchmarks.scaling.arrivals import Request, recorded, requests, steady
from benchmarks.scaling.autoscaler import Autoscaler, Behavior
from benchmarks.scaling.cluster import Cluster, Course, Machine, Targets, serve
from benchmarks.scaling.formula import Work, foretold
from benchmarks.scaling.simulated_time import Clock, simulated

MACHINE = Machine(tokens_per_second=1400.0, token_budget=256, limit_tokens=15_000, start_seconds=60.0)
LEAST, MOST = 2, 40
PICTURE = ROOT / "docs" / "images" / "scaling.png"
_QUESTIONS, _DOCUMENTS = 20.0, 14.0
"""Requests a second of the record's plateau: ten times what a replica computes."""

_UP = Behavior(0.0, percent=100, replicas=4, period_seconds=60)
_FAST_DOWN = Behavior(300.0, percent=50, period_seconds=60)
_SLOW_DOWN = Behavior(300.0, percent=10, replicas=1, period_seconds=60)


@dataclass(frozen=True)
class Policy:
    """One way to scale."""

    name: str
    down: Behavior
    targets: Targets

    def autoscaler(self) -> Autoscaler:
        """A new one, which remembers nothing."""
        return Autoscaler(LEAST, MOST, _UP, self.down)


POLICIES = (
    Policy("queue wait of 1 s, down by half a minute", _FAST_DOWN, Targets(1.0)),
    Policy("queue wait of 1 s, down by a tenth a minute", _SLOW_DOWN, Targets(1.0)),
    Policy("queue wait of 1 s or 60 % busy, down by a tenth a minute", _SLOW_DOWN, Targets(1.0, 0.6)),
)


def capacity(seconds: float = 120.0) -> float:
    """Tokens a second that one replica computes, padding left out, when it is offered ten times as many."""
    clock = Clock()

    async def flood() -> float:
        cluster = Cluster(MACHINE, clock, 1)
        await cluster.serve(steady(seconds, _QUESTIONS, _DOCUMENTS))
        return cluster.replicas[0].scheduler.tokens_per_second or 0.0

    speed: float = simulated(clock, flood())
    return speed


def steady_rows(speed: float, seconds: float) -> tuple[list[list[str]], dict[str, dict[str, list[float]]]]:
    """Mean wait at ten times the capacity with several numbers of replicas, and the formula's; rows, and figures."""
    rows, waits = [], {}
    for replicas in (14, 16, 20, 30):
        offered = list(steady(seconds, _QUESTIONS, _DOCUMENTS, seed=replicas))
        work = Work.of(offered, MACHINE, speed)
        share = float(work.offered(seconds).sum()) / replicas
        seen, formula = float(np.mean(serve(MACHINE, offered, replicas).waits)), work.wait(share)
        waits[f"{replicas} replicas"] = {"simulated": [seen], "formula": [formula]}
        rows.append([str(replicas), f"{share:.2f}", f"{seen:.2f}", f"{formula:.2f}", f"{seen / formula - 1:+.0%}"])
    return rows, waits


@dataclass
class Day:
    """The recorded day under one policy: what was simulated and what the formulas foretold."""

    policy: Policy
    seen: Course
    formula: Course

    @property
    def distance(self) -> float:
        """Mean distance in replicas, of the mean number of replicas."""
        seen, formula = _same_length(self.seen.replicas, self.formula.replicas)
        return float(np.abs(seen - formula).mean() / seen.mean())

    def cells(self) -> list[str]:
        """A row."""
        seen, formula = _same_length(self.seen.replicas, self.formula.replicas)
        return [
            self.policy.name,
            f"{seen.mean():.1f} / {formula.mean():.1f}",
            f"{seen.max():.0f} / {formula.max():.0f}",
            f"{np.abs(seen - formula).mean():.1f}",
            f"{np.corrcoef(seen, formula)[0, 1]:.3f}",
            f"{np.mean(self.seen.waits):.2f} / {np.mean(self.formula.waits):.2f}",
            f"{np.mean(np.array(self.seen.waits) > 2):.1%}",
            f"{self.seen.late / (self.seen.late + len(self.seen.answered)):.3%}",
        ]


def _same_length(one: Sequence[int], other: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The simulation goes on until the last answer."""
    count = min(len(one), len(other))
    return np.array(one[:count], float), np.array(other[:count], float)


def day(policy: Policy, offered: Sequence[Request], work: Work) -> Day:
    """Simulate and foretell the recorded day."""
    seen = serve(MACHINE, offered, LEAST, policy.autoscaler(), policy.targets)
    return Day(policy, seen, foretold(MACHINE, work, LEAST, policy.autoscaler(), policy.targets))


def draw(days: Sequence[Day], work: Work, file: Path) -> None:
    """Replicas and waits of each policy over the day."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        2, len(days), figsize=(3.6 * len(days), 5), sharex=True, sharey="row", squeeze=False, layout="constrained"
    )
    offered = work.offered(30.0)
    for (above, below), one in zip(axes.T, days, strict=True):
        above.fill_between(np.arange(len(offered)) / 2, offered, color="#d5dae0", label="offered, in replicas' worth")
        for course, style, name in ((one.seen, "-", "simulated"), (one.formula, "--", "formula")):
            minutes = np.array(course.moments) / 60
            above.step(minutes, course.replicas, style, where="post", linewidth=1.2, label=name)
            below.plot(minutes, np.maximum(course.waits, 0.05), style, linewidth=0.8)
        above.set_title(one.policy.name.replace(", ", ",\n"), fontsize=9)
        below.axhline(one.policy.targets.wait_seconds, color="#59636f", linewidth=0.8)
        below.set(yscale="log", xlabel="minutes")
    axes[0][0].set(ylabel="replicas", ylim=(0, 1.5 * MOST))
    axes[1][0].set_ylabel("queue wait, s")
    axes[0][0].legend(fontsize=8, frameon=False, loc="upper right")
    figure.savefig(file, dpi=100, metadata={"Software": ""})
    plt.close(figure)


def report(
    speed: float,
    work: Work,
    steady_load: tuple[list[list[str]], dict[str, dict[str, list[float]]]],
    days: Sequence[Day],
) -> Report:
    """Put waits and replicas, simulated and foretold, into a report."""
    rows, waits = steady_load
    said = (
        f"A replica of {MACHINE.tokens_per_second:,.0f} padded tokens a second computes {speed:,.0f} of texts; a "
        f"request is {work.residual_seconds:.2f} s of residual work; a new replica needs {MACHINE.start_seconds:.0f} s."
    )
    headers = ("replicas", "busy", "wait, s: simulated", "formula", "error")
    day_headers = ("policy", "replicas, mean: simulated / formula", "most", "mean distance", "correlation",
                   "wait, s: simulated / formula", "of time above 2 s", "calls never answered")  # fmt: skip
    errors = [one["simulated"][0] / one["formula"][0] - 1 for one in waits.values()]
    worst, distance = max(map(abs, errors)), max(one.distance for one in days)
    goals = [
        Goal("mean queue wait, simulated against formula, worst error", f"{worst:.0%}", "", worst, 0.1, True),
        Goal("replicas over the day, mean distance of their mean", f"{distance:.0%}", "", distance, 0.2, True),
    ]
    replicas = {
        one.policy.name: {
            "simulated": [float(np.mean(one.seen.replicas))],
            "formula": [float(np.mean(one.formula.replicas))],
        }
        for one in days
    }
    tables = [said, table(headers, rows), table(day_headers, [one.cells() for one in days])]
    figures = {"mean queue wait, s": waits, "mean replicas over the day": replicas}
    return Report("scaling", tables, goals, figures, {"capacity": speed})


def main() -> None:
    """Simulate, foretell, compare, draw."""
    options = arguments(__doc__).parse_args()
    speed = capacity()
    steady_load = steady_rows(speed, 300.0 if options.quick else 2400.0)
    offered = list(requests(recorded()[:60] if options.quick else recorded()))
    work = Work.of(offered, MACHINE, speed)
    days = [day(policy, offered, work) for policy in POLICIES]
    if not options.quick:
        draw(days, work, PICTURE)
    report(speed, work, steady_load, days).finish(options.json)


if __name__ == "__main__":
    main()
