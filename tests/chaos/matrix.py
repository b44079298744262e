"""The cells, and what is done in one: start, strike at a random moment, wait, compare."""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tests.chaos.activities import ACTIVITIES, Course, Work, differs, works
from tests.chaos.cluster import TARGETS, Cluster
from tests.chaos.faults import FAULTS, NEED_HOSTS

_EARLIEST, _LATEST = 0.05, 0.6
"""When a fault begins, as a share of the time that the quickest activity takes undisturbed."""

_CALM_SECONDS = 5.0
"""How long the corpus takes that is embedded, alone."""
_PROBE = 0.05

Verdict = Literal["held", "refused", "BROKEN", "missed", "left out"]


@dataclass(frozen=True)
class Cell:
    """One fault of one target during one activity; `because` says why it is left out."""

    target: str
    fault: str
    activity: str
    because: str = ""

    @property
    def name(self) -> str:
        return f"{self.target}/{self.fault}/{self.activity}"

    def chosen(self, patterns: Sequence[str]) -> bool:
        """Whether a pattern such as `embedder/*/evaluation` or `redis` names it."""
        mine = self.name.split("/")
        return not patterns or any(
            all(part in ("*", own) for part, own in zip(pattern.split("/"), mine, strict=False)) for pattern in patterns
        )


@dataclass
class Found:
    """What became of one cell. Seconds are from the end of the fault; `struck` is from the activity's start."""

    cell: Cell
    verdict: Verdict
    round: int = 1
    struck: float = 0.0
    fault_seconds: float = 0.0
    lost: list[str] = field(default_factory=list)
    differed: str = ""
    refused: int = 0
    first_success: float | None = None
    done: float | None = None
    calm: float = 0.0
    note: str = ""


def cells(net_shared_because: str) -> list[Cell]:
    """All of the matrix."""
    return [
        Cell(target, fault, activity, _left_out(target, fault, activity, net_shared_because))
        for target in TARGETS
        for fault in FAULTS
        for activity in ACTIVITIES
    ]


def _left_out(target: str, fault: str, activity: str, shared_because: str) -> str:
    if fault == "disk-full" and target != "redis":
        return "only Redis writes what it must keep to a disk of its own"
    if target == "evaluator" and activity == "embedding":
        return "no evaluator takes part"
    return shared_because if fault in NEED_HOSTS else ""


Calm = Mapping[tuple[str, str], tuple[object, float]]
"""By model and activity: the outcome that nothing disturbed, and its seconds."""


async def fitting(cluster: Cluster) -> float:
    """How much work takes this machine some seconds."""
    started = time.monotonic()
    await ACTIVITIES["embedding"](cluster, works(cluster, _PROBE)["embedder"], Course())
    return min(1.0, _PROBE * _CALM_SECONDS / (time.monotonic() - started))


async def undisturbed(
    cluster: Cluster, work: Work, activities: Sequence[str]
) -> dict[tuple[str, str], tuple[object, float]]:
    """Run the activities at once, as they are under faults."""
    cluster.forget()
    started = time.monotonic()

    async def timed(name: str) -> tuple[object, float]:
        course = Course()
        await ACTIVITIES[name](cluster, work, course)
        assert not course.lost, course.lost
        return course.outcome, time.monotonic() - started

    done = await asyncio.gather(*map(timed, activities))
    return {(work.model, name): one for name, one in zip(activities, done, strict=True)}


async def hit(
    cluster: Cluster, chosen: Sequence[Cell], work: Work, calm: Calm, chance: random.Random, patience: float
) -> list[Found]:
    """Strike; activities that were done before are struck again by themselves, and earlier."""
    found = await struck(cluster, chosen, work, calm, chance, patience)
    for latest in (_LATEST / 2, _LATEST / 4):
        missed = [one.cell for one in found if one.verdict == "missed"]
        if missed:
            again = await struck(cluster, missed, work, calm, chance, patience, latest)
            found = [one for one in found if one.verdict != "missed"] + again
    return found


async def struck(
    cluster: Cluster,
    chosen: Sequence[Cell],
    work: Work,
    calm: Calm,
    chance: random.Random,
    patience: float,
    latest: float = _LATEST,
) -> list[Found]:
    """Strike one target once, during all activities of these cells at the same time; `patience` in seconds."""
    await asyncio.to_thread(cluster.wait)
    await asyncio.to_thread(cluster.forget)
    quickest = min(calm[work.model, cell.activity][1] for cell in chosen)
    delay = quickest * chance.uniform(_EARLIEST, latest)
    started = time.monotonic()
    courses = {cell: Course() for cell in chosen}
    tasks = {cell: asyncio.create_task(_run(cluster, cell, work, course, patience)) for cell, course in courses.items()}
    await asyncio.sleep(delay)
    late = {cell for cell, task in tasks.items() if task.done()}
    at = time.monotonic()
    await asyncio.to_thread(FAULTS[chosen[0].fault], cluster, chosen[0].target)
    over = time.monotonic()
    ends = dict(zip(tasks, await asyncio.gather(*tasks.values()), strict=True))
    return [
        _judged(cell, courses[cell], ends[cell], (started, at, over), calm[work.model, cell.activity], cell in late)
        for cell in chosen
    ]


async def _run(cluster: Cluster, cell: Cell, work: Work, course: Course, patience: float) -> tuple[float, str]:
    """When it ended, and with which error, if with any."""
    error = ""
    try:
        async with asyncio.timeout(patience):
            await ACTIVITIES[cell.activity](cluster, work, course)
    except TimeoutError:
        error = f"not done after {patience:.0f} s"
    except Exception as failure:  # whatever it is, it is what was found
        error = repr(failure)
    return time.monotonic(), error


def _judged(
    cell: Cell,
    course: Course,
    end: tuple[float, str],
    times: tuple[float, float, float],
    calm: tuple[object, float],
    is_late: bool,
) -> Found:
    started, at, over = times
    ended, error = end
    found = Found(cell, "held", struck=at - started, fault_seconds=over - at, calm=calm[1], refused=len(course.refused))
    found.first_success = next((moment - over for moment in course.successes if moment >= over), None)
    found.done = max(ended - over, 0.0)
    found.lost = [*course.lost, *([error] if error else [])]
    found.differed = "" if error else differs(course.outcome, calm[0])
    if found.lost or found.differed:
        found.verdict = "BROKEN"
    elif is_late:
        found.verdict = "missed"
    elif course.refused:
        found.verdict, found.note = "refused", course.refused[0]
    return found
