"""Work on a stream, of services and of the client: in order, a few items at a time, and nothing is left behind."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedscale.client import ordered as of_the_client
from embedscale.core import ordered as of_services

InOrder = Callable[..., AsyncGenerator[int, None]]
both = pytest.mark.parametrize("in_order", [of_services.in_order, of_the_client.in_order], ids=["services", "client"])
turns_of_items = st.lists(st.integers(0, 6), max_size=30)
windows = st.integers(1, 8)


class Work:
    """Returns a number after so many turns of the event loop, or fails with it; notes what is under way."""

    def __init__(self, turns: Sequence[int], bad: Collection[int] = ()) -> None:
        self.turns, self.bad = turns, bad
        self.begun: list[int] = []
        self.under_way = self.most = 0

    async def __call__(self, number: int) -> int:
        self.begun.append(number)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            for _ in range(self.turns[number]):
                await asyncio.sleep(0)
            if number in self.bad:
                raise ValueError(number)
            return number
        finally:
            self.under_way -= 1


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def collected(results: AsyncIterator[int]) -> tuple[list[int], Exception | None]:
    """Results to their end, and the failure that it was."""
    found: list[int] = []
    try:
        async for result in results:
            found.append(result)
    except Exception as error:
        return found, error
    return found, None


async def turns_pass() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


@both
@given(turns=turns_of_items, window=windows)
@settings(deadline=None, max_examples=50)
async def test_results_are_in_order_and_no_more_than_the_window_are_under_way(
    in_order: InOrder, turns: list[int], window: int
) -> None:
    work = Work(turns)
    assert [result async for result in in_order(work, numbers(len(turns)), window)] == list(range(len(turns)))
    assert work.most <= window


@both
async def test_as_many_as_the_window_are_under_way_together(in_order: InOrder) -> None:
    work = Work([9] * 10)
    assert len([result async for result in in_order(work, numbers(10), 4)]) == 10
    assert work.most == 4


@both
@given(turns=turns_of_items, window=windows, bad=st.sets(st.integers(0, 29), min_size=1))
@settings(deadline=None, max_examples=50)
async def test_a_failure_comes_after_the_results_before_it_and_nothing_goes_on(
    in_order: InOrder, turns: list[int], window: int, bad: set[int]
) -> None:
    work, first = Work(turns, bad), min([*bad, len(turns)])
    found, error = await collected(in_order(work, numbers(len(turns)), window))
    assert found == list(range(first))
    assert (error.args if error else ()) == ((first,) if first < len(turns) else ())
    assert work.under_way == 0


@both
@pytest.mark.parametrize("left", [True, False], ids=["left", "cancelled"])
async def test_nothing_goes_on_without_who_asked(in_order: InOrder, left: bool) -> None:
    work = Work([0, *[10**6] * 20])
    results = in_order(work, numbers(20), 4)
    assert await anext(results) == 0
    if left:
        await results.aclose()
    else:
        waiting = asyncio.ensure_future(anext(results))
        await turns_pass()
        assert work.under_way == 4
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    begun = len(work.begun)
    await turns_pass()
    assert (work.under_way, len(work.begun)) == (0, begun)


async def test_services_read_while_there_is_room_and_one_item_beyond() -> None:
    read: list[int] = []

    async def noted() -> AsyncIterator[int]:
        async for number in numbers(10):
            read.append(number)
            yield number

    results = of_services.in_order(Work([0] * 10), noted(), 3)
    for asked in (1, 2):
        await anext(results)
        await turns_pass()
        assert len(read) == 3 + asked
    await results.aclose()


async def test_services_answer_an_item_before_the_next_is_sent() -> None:
    sent: asyncio.Queue[int] = asyncio.Queue()

    async def items() -> AsyncIterator[int]:
        while True:
            yield await sent.get()

    results = of_services.in_order(Work([3] * 3), items(), 2)
    for number in range(3):
        sent.put_nowait(number)
        assert await asyncio.wait_for(anext(results), 60) == number
    await results.aclose()


async def test_services_answer_what_came_before_items_that_break_off() -> None:
    async def broken() -> AsyncIterator[int]:
        async for number in numbers(3):
            yield number
        raise ConnectionError

    found, error = await collected(of_services.in_order(Work([5] * 3), broken(), 8))
    assert (found, type(error)) == ([0, 1, 2], ConnectionError)
