"""The simulation of scaling: its clock, the autoscaler's arithmetic, and both against the formulas on small cases."""

import asyncio
import math
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.common import table
from benchmarks.scaling import arrivals, capacity
from benchmarks.scaling.arrivals import steady
from benchmarks.scaling.autoscaler import Autoscaler, Behavior, desired_replicas
from benchmarks.scaling.cluster import Machine, Targets, serve
from benchmarks.scaling.formula import Work, foretold
from benchmarks.scaling.simulated_time import Clock, simulated

MACHINE = Machine(tokens_per_second=1000.0, token_budget=256, limit_tokens=50_000, start_seconds=30.0)
SPEED = 970.0
"""Tokens a second without the padding of its batches."""


def test_an_hour_of_simulated_waiting_takes_no_time() -> None:
    clock = Clock()

    async def computing() -> tuple[float, str]:
        def work() -> str:
            clock.now += 5
            return "done"

        computed = asyncio.get_running_loop().run_in_executor(None, work)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await asyncio.shield(computed)
        at = clock.now
        outcome = await computed
        await asyncio.sleep(3600)
        return at, outcome

    started = time.monotonic()
    assert simulated(clock, computing()) == (pytest.approx(3), "done")
    assert clock.now == pytest.approx(3605)
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    ("values", "unready", "target", "expected"),
    [
        ([2.0], 0, 1.0, 2),  # the example of Kubernetes' documentation: twice the target, twice the replicas
        ([0.5, 0.5], 0, 1.0, 1),  # half of it, half of them
        ([1.09, 1.09, 1.09], 0, 1.0, 3),  # within the tolerance
        ([1.11, 1.11, 1.11], 0, 1.0, 4),
        ([0.0, 0.0], 0, 1.0, 0),
        ([4.0, 4.0], 2, 1.0, 8),  # those that start count with nothing
        ([1.5, 1.5], 1, 1.0, 3),  # and are enough
        ([0.2, 0.2, 0.2], 3, 1.0, 1),  # for fewer they do not count
        ([], 2, 1.0, 2),
    ],
)
def test_desired_replicas(values: list[float], unready: int, target: float, expected: int) -> None:
    assert desired_replicas(values, unready, target) == expected


def test_steps_keep_to_their_pace_and_remember() -> None:
    scaler = Autoscaler(1, 20, Behavior(0, 100, 4, 60), Behavior(60, 50, period_seconds=60))
    wanted = [10, 10, 20, 20, 20, 20, 20, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    current, course = 1, []
    for number, desired in enumerate(wanted):
        current = scaler.step(15.0 * number, current, desired)
        course.append(current)
    # 4 more a minute at first, then twice as many; down once 20 has been forgotten, by half a minute
    assert course == [5, 5, 5, 5, 10, 10, 10, 10, 10, 10, 10, 5, 5, 5, 5, 2, 2]


def test_the_record_is_what_its_program_makes(tmp_path: Path) -> None:
    arrivals.record(tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_text() == arrivals.FILE.read_text()
    first, again = (list(arrivals.requests(arrivals.recorded()[:30])) for _ in range(2))
    assert first == again
    assert [request.moment for request in first] == sorted(request.moment for request in first)


def test_the_real_batcher_waits_as_long_as_queueing_theory_says() -> None:
    offered = list(steady(1500, questions=3, documents=3))
    work = Work.of(offered, MACHINE, SPEED)
    share = float(work.offered(1500).sum()) / 6
    assert 0.4 < share < 0.6
    seen = serve(MACHINE, offered, replicas=6)
    assert (seen.late, seen.refusals) == (0, 0)
    assert np.mean(seen.waits) == pytest.approx(work.wait(share), rel=0.15)


def test_replicas_become_as_many_as_the_formulas_say() -> None:
    offered = list(steady(900, questions=3, documents=3))
    work = Work.of(offered, MACHINE, SPEED)
    targets = Targets(wait_seconds=3.0, busy_share=0.6)

    def scaler() -> Autoscaler:
        return Autoscaler(2, 20, down=Behavior(120, 10, 1, 60))

    seen = serve(MACHINE, offered, 2, scaler(), targets)
    formula = foretold(MACHINE, work, 2, scaler(), targets)
    count = len(formula.replicas)
    distance = np.abs(np.array(seen.replicas[:count]) - np.array(formula.replicas[:count]))
    assert distance.mean() < 1.5
    settled = math.ceil(float(work.offered(900).sum()) / 0.6)
    assert np.median(seen.replicas[-count // 4 :]) == pytest.approx(settled, abs=1)


def test_the_page_has_the_table_of_clusters_as_it_is_computed() -> None:
    page = Path(__file__).parents[2] / "docs" / "scaling.md"
    assert table(capacity.HEADERS, capacity.rows()) in page.read_text("utf-8")
