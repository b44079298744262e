"""Batches across callers: complete and in order; what fails or is cancelled harms nobody else."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from embedscale.core.errors import ModelStarting
from embedscale.embedder.scheduler import BatchTooLarge, QueuePolicy, Scheduler
from tests.unit.computing import Gate, Make, SmallMemory, vectors_of

jobs = st.lists(st.lists(st.integers(1, 300), min_size=1, max_size=20), min_size=1, max_size=12)
budgets = st.integers(1, 1500)
slots = st.integers(1, 4)


@given(jobs, budgets, slots)
@settings(deadline=None, max_examples=25)
async def test_each_caller_gets_its_rows_in_order(given_jobs: list[list[int]], budget: int, slots: int) -> None:
    scheduler = Scheduler("test", vectors_of, budget, QueuePolicy())
    scheduler.compute_with(budget, slots)
    marked = [[[100 * job + row] * n for row, n in enumerate(lengths)] for job, lengths in enumerate(given_jobs)]
    results = await asyncio.gather(*(scheduler.run(job) for job in marked))
    await scheduler.close()
    for job, (rows, seconds) in zip(marked, results, strict=True):
        np.testing.assert_array_equal(rows, vectors_of(job))
        assert seconds >= 0
    assert scheduler.queued_tokens == 0


async def test_callers_share_batches(scheduler: Make) -> None:
    gate = Gate()
    shared = scheduler(gate)
    first = asyncio.create_task(shared.run([[0] * 4]))
    await asyncio.to_thread(gate.entered.wait)
    others = [asyncio.create_task(shared.run([[caller] * 4])) for caller in range(1, 33)]
    await asyncio.sleep(0)
    assert shared.queued_tokens == 33 * 4
    gate.opened.set()
    await asyncio.gather(first, *others)
    assert list(map(len, gate.batches)) == [1, 16, 16]
    assert shared.batches == 3


async def test_a_query_that_comes_during_a_corpus_is_in_the_next_batch(scheduler: Make) -> None:
    gate = Gate()
    shared = scheduler(gate)
    corpus = asyncio.create_task(shared.run([[1] * 8] * 100))
    await asyncio.to_thread(gate.entered.wait)
    query = asyncio.create_task(shared.run([[2] * 8]))
    await asyncio.sleep(0)
    gate.opened.set()
    await query
    assert gate.batches[1] == [2]
    await corpus


async def test_what_was_cancelled_is_not_computed(scheduler: Make) -> None:
    gate = Gate()
    shared = scheduler(gate)
    first = asyncio.create_task(shared.run([[1] * 4]))
    await asyncio.to_thread(gate.entered.wait)
    left, kept = (asyncio.create_task(shared.run([[mark] * 4] * 20)) for mark in (2, 3))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)
    assert shared.queued_tokens == 21 * 4
    first.cancel()  # of a batch that is being computed: its rows are thrown away, and nobody else's
    gate.opened.set()
    rows, _ = await kept
    assert len(rows) == 20
    assert {mark for batch in gate.batches for mark in batch} == {1, 3}


@pytest.mark.parametrize("slots", [1, 3])
async def test_a_failing_batch_fails_its_callers_and_no_others(scheduler: Make, slots: int) -> None:
    def compute(batch: Sequence[Sequence[int]], alone: bool) -> np.ndarray:
        if any(tokens[0] == 13 for tokens in batch):
            raise ValueError("unlucky")
        return vectors_of(batch)

    shared = scheduler(compute, slots=slots)
    good, bad, other = [[1] * 4], [[2] * 60, [13] * 60], [[3] * 4]
    outcomes = await asyncio.gather(*(shared.run(job) for job in (good, bad, other)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [tuple, ValueError, tuple]
    assert shared.queued_tokens == 0
    assert (await shared.run(good))[0].tolist() == [[1, 4]]


async def test_a_model_that_returns_too_few_rows_fails_the_batch_and_not_the_worker(scheduler: Make) -> None:
    shared = scheduler(lambda batch, alone: vectors_of(batch)[1:])
    for _ in range(2):
        with pytest.raises(ValueError, match="zip"):
            await shared.run([[1], [2]])


async def test_a_batch_that_is_halved_while_the_model_is_closed_fails_its_callers(scheduler: Make) -> None:
    gate = Gate()

    def compute(batch: Sequence[Sequence[int]], alone: bool) -> np.ndarray:
        gate(batch, alone)
        raise BatchTooLarge("no memory")

    shared = scheduler(compute)
    running = asyncio.create_task(shared.run([[1] * 4] * 4))
    await asyncio.to_thread(gate.entered.wait)
    closing = asyncio.create_task(shared.close())
    await asyncio.sleep(0)
    gate.opened.set()
    await closing
    with pytest.raises(ModelStarting):
        await running


async def test_a_model_that_becomes_slow_is_believed_within_two_seconds(scheduler: Make) -> None:
    now = [0.0]
    took = 0.1

    def compute(batch: Sequence[Sequence[int]], alone: bool) -> np.ndarray:
        now[0] += took
        return vectors_of(batch)

    shared = scheduler(compute, clock=lambda: now[0])
    for _ in range(100):
        await shared.run([[1] * 4] * 16)
    assert shared.tokens_per_second == pytest.approx(640)
    took = 0.2
    for _ in range(10):
        await shared.run([[1] * 4] * 16)
    assert shared.tokens_per_second < 1.2 * 320
    took = 0.1
    for _ in range(10):
        await shared.run([[1] * 4] * 16)
    assert shared.tokens_per_second < 0.9 * 640


async def test_without_memory_batches_are_halved_and_come_back(scheduler: Make) -> None:
    memory = SmallMemory(20)
    shared = scheduler(memory, budget=64)
    rows, _ = await shared.run([[row] * 4 for row in range(64)])
    np.testing.assert_array_equal(rows[:, 0], np.arange(64))
    assert memory.failures == 2
    assert max(memory.sizes) == 16
    memory.tokens = 64
    for _ in range(500):
        await shared.run([[1] * 4])
    await shared.run([[1] * 4] * 32)
    assert max(memory.sizes) == 64


async def test_a_window_that_alone_has_no_memory_fails_its_caller_only(scheduler: Make) -> None:
    shared = scheduler(SmallMemory(20), budget=64)
    big, small = await asyncio.gather(shared.run([[1] * 30]), shared.run([[2] * 5]), return_exceptions=True)
    assert isinstance(big, BatchTooLarge)
    assert small[0].tolist() == [[2, 5]]


async def test_closing_fails_what_waits_and_refuses_more(scheduler: Make) -> None:
    gate = Gate()
    shared = scheduler(gate)
    running = asyncio.create_task(shared.run([[1] * 4]))
    await asyncio.to_thread(gate.entered.wait)
    waiting = asyncio.create_task(shared.run([[2] * 4]))
    await asyncio.sleep(0)
    closing = asyncio.create_task(shared.close())
    await asyncio.sleep(0)
    gate.opened.set()
    await closing
    assert (await running)[0].tolist() == [[1, 4]]
    for late in (waiting, shared.run([[3] * 4])):
        with pytest.raises(ModelStarting):
            await late
    assert gate.batches == [[1]]


async def test_speed_is_that_of_batches_at_least_half_full(scheduler: Make) -> None:
    shared = scheduler(budget=64)
    await shared.run([[1] * 4])
    assert shared.tokens_per_second is None
    await shared.run([[1] * 4] * 16)
    assert shared.tokens_per_second > 0


async def test_batches_and_their_padding_are_counted() -> None:
    scheduler = Scheduler("metered", vectors_of, 64, QueuePolicy(interactive_windows=2))
    await asyncio.gather(scheduler.run([[1] * 10, [1] * 6]), scheduler.run([[2] * 4] * 3))
    await scheduler.close()
    values = {
        sample.name: sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.labels.get("model") == "metered" and sample.labels.get("priority", "interactive") == "interactive"
    }
    assert values["embedscale_batches_total"] == scheduler.batches
    assert values["embedscale_batch_tokens_sum"] == 28
    assert values["embedscale_padded_tokens_total"] >= 32
    assert values["embedscale_queue_seconds_count"] == 2
    assert values["embedscale_token_budget"] == 64
    assert values["embedscale_queued_tokens"] == 0
