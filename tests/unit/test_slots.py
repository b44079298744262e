"""Several batches at once: each slot is used, little work is shared out, and what is learnt of them is true."""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import pytest

from tests.unit.computing import Gate, Make, Slots, SmallMemory, vectors_of
from tests.waiting import eventually


async def test_as_many_batches_are_computed_at_once_as_there_are_slots(scheduler: Make) -> None:
    compute = Slots(3)
    shared = scheduler(compute, budget=8, slots=3)
    rows, _ = await shared.run([[row] * 4 for row in range(18)])
    np.testing.assert_array_equal(rows[:, 0], np.arange(18))
    assert compute.seen == [(2, False)] * 9


async def test_little_work_is_shared_out_to_all_slots(scheduler: Make) -> None:
    compute = Slots(2)
    await scheduler(compute, slots=2).run([[1] * 4] * 8)
    assert compute.seen == [(4, False)] * 2


async def test_a_window_that_comes_when_nothing_is_computed_has_all_threads(scheduler: Make) -> None:
    gate = Gate()
    shared = scheduler(gate, slots=2)
    first = asyncio.create_task(shared.run([[1] * 4]))
    await asyncio.to_thread(gate.entered.wait)
    second = asyncio.create_task(shared.run([[2] * 4]))
    await asyncio.sleep(0.05)
    assert (gate.batches, gate.alone) == ([[1]], [True])
    gate.opened.set()
    await asyncio.gather(first, second)
    assert (gate.batches, gate.alone) == ([[1], [2]], [True, True])


async def test_tokens_count_as_queued_until_their_batch_has_ended(scheduler: Make) -> None:
    gate = Gate()
    shared = scheduler(gate, budget=8, slots=2)
    running = asyncio.create_task(shared.run([[1] * 4] * 8))
    seen = set()
    while not gate.entered.is_set():
        await asyncio.sleep(0)
        seen.add(shared.queued_tokens)
    gate.opened.set()
    await running
    assert seen == {32}
    assert shared.queued_tokens == 0


async def test_a_slot_that_is_free_computes_batch_after_batch_while_another_is_held(scheduler: Make) -> None:
    gate = Gate()

    def compute(batch: Sequence[Sequence[int]], alone: bool) -> np.ndarray:
        return gate(batch, alone) if batch[0][0] == 1 else vectors_of(batch)

    shared = scheduler(compute, budget=4, slots=2)
    corpus = asyncio.create_task(shared.run([[1] * 4, *([[2] * 4] * 20)]))
    await asyncio.to_thread(gate.entered.wait)
    for mark in range(3, 6):
        assert (await shared.run([[mark] * 4]))[0].tolist() == [[mark, 4]]
    assert shared.batches > 3
    gate.opened.set()
    await corpus
    assert gate.batches == [[1]]


async def test_few_windows_that_cannot_be_shared_out_are_computed_together_and_many_are_not(scheduler: Make) -> None:
    seen = []

    def compute(batch: Sequence[Sequence[int]], alone: bool) -> np.ndarray:
        seen.append((len(batch), alone))
        return vectors_of(batch)

    shared = scheduler(compute, slots=2)
    await shared.run([[1] * 10] * 3)
    assert seen == [(3, True)]
    await shared.run([[1] * 10] * 9)
    assert sum(count for count, alone in seen[1:] if not alone) == 9


async def test_batches_that_fail_together_halve_the_budget_once(scheduler: Make) -> None:
    memory = SmallMemory(200)
    together = threading.Barrier(4)

    def compute(batch: Sequence[Sequence[int]], alone: bool) -> np.ndarray:
        if not memory.sizes:
            with suppress(threading.BrokenBarrierError):
                together.wait(5)
        return memory(batch, alone)

    shared = scheduler(compute, budget=256, slots=4)
    rows, _ = await shared.run([[row] * 4 for row in range(256)])
    np.testing.assert_array_equal(rows[:, 0], np.arange(256))
    assert memory.failures == 4
    assert max(memory.sizes) == 128


async def test_the_speed_of_all_slots_is_learnt_from_each(scheduler: Make) -> None:
    """Two slots, each of which computes 64 tokens in 0.1 s."""
    now = [0.0]
    together = threading.Barrier(2, lambda: now.__setitem__(0, now[0] + 0.1))

    def compute(batch: Sequence[Sequence[int]], alone: bool) -> np.ndarray:
        together.wait(60)
        return vectors_of(batch)

    shared = scheduler(compute, slots=2, clock=lambda: now[0])
    await shared.run([[1] * 4] * 320)
    assert shared.tokens_per_second == pytest.approx(1280, rel=0.2)


async def test_nothing_may_be_computed_while_slots_are_changed(scheduler: Make) -> None:
    gate = Gate()
    shared = scheduler(gate)
    running = asyncio.create_task(shared.run([[1] * 4]))
    await asyncio.to_thread(gate.entered.wait)
    with pytest.raises(RuntimeError, match="are being computed"):
        shared.compute_with(64, slots=2)
    gate.opened.set()
    await running


async def test_time_with_several_batches_counts_once(scheduler: Make) -> None:
    now = [0.0]

    def compute(batch: Sequence[Sequence[int]], alone: bool) -> np.ndarray:
        together.wait(60)
        now[0] = 5.0
        return vectors_of(batch)

    together = threading.Barrier(2)
    _, seconds = await scheduler(compute, slots=2, clock=lambda: now[0]).run([[1] * 4] * 8)
    assert seconds == 5


async def test_a_batch_that_ends_while_another_slot_is_idle_says_nothing_of_the_speed(scheduler: Make) -> None:
    now = [0.0]
    turn = threading.Lock()
    learnt = threading.Event()

    def compute(batch: Sequence[Sequence[int]], alone: bool) -> np.ndarray:
        if turn.acquire(blocking=False):
            now[0] = 0.1
        else:
            assert learnt.wait(60)
            now[0] = 10.0
        return vectors_of(batch)

    shared = scheduler(compute, slots=2, clock=lambda: now[0])
    running = asyncio.create_task(shared.run([[1] * 4] * 16))
    await eventually(lambda: shared.tokens_per_second is not None, "no speed is learnt", 60)
    learnt.set()
    await running
    assert shared.tokens_per_second == pytest.approx(640)


async def test_half_a_slot_s_tokens_computed_by_all_threads_are_no_full_batch(scheduler: Make) -> None:
    shared = scheduler(slots=2)
    await shared.run([[1] * 40])
    assert shared.tokens_per_second is None
    await shared.run([[1] * 64])
    assert shared.tokens_per_second > 0


async def test_a_batch_of_all_budgets_that_has_no_memory_is_not_made_again(scheduler: Make) -> None:
    memory = SmallMemory(50)
    async with asyncio.timeout(20):
        rows, _ = await scheduler(memory, slots=2).run([[row] * 30 for row in range(3)])
    np.testing.assert_array_equal(rows[:, 0], np.arange(3))
    assert memory.failures == 1
