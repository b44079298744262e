"""Models share a memory budget: never above it, never unloaded in use, loaded once, refused with figures."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedscale.core.embedding import EngineLoad, InputType, ModelState, Truncation
from embedscale.core.errors import ModelFailed, Overloaded
from embedscale.embedding import residency
from embedscale.embedding.registry import ModelRegistry
from embedscale.embedding.residency import Residency, ResidentEngine
from tests.fakes.loadable_engine import Ledger, LoadableEngine

MB = 10**6


class World:
    """Models of the given sizes in MB under one budget."""

    def __init__(self, sizes: dict[str, int], budget: int | None, **options: float) -> None:
        self.ledger = Ledger()
        self.residency = Residency(None if budget is None else budget * MB, **options)
        self.engines = {name: LoadableEngine(name, self.ledger, estimate=size * MB) for name, size in sizes.items()}
        self.models = {name: self.residency.host(engine) for name, engine in self.engines.items()}

    async def call(self, name: str, seconds: float = 0.0) -> None:
        self.engines[name].seconds = seconds
        await embed(self.models[name])

    def in_memory(self) -> set[str]:
        return set(self.ledger.loaded)


async def embed(model: ResidentEngine) -> None:
    await model.embed([model.prepare("a", InputType.QUERY)], Truncation.END)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


CALLS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3), st.integers(0, 3)), max_size=25)


@given(calls=CALLS, budget=st.integers(40, 110))
@settings(max_examples=60, deadline=None)
async def test_never_above_the_budget_and_never_unloaded_in_use(calls: list[tuple[str, int, int]], budget: int) -> None:
    world = World({"a": 10, "b": 20, "c": 30, "d": 40}, budget)
    for engine in world.engines.values():
        engine.load_seconds = 0.001

    async def one(name: str, after: int, seconds: int) -> None:
        await asyncio.sleep(after / 1000)
        await world.call(name, seconds / 1000)

    await asyncio.gather(*(one(*call) for call in calls))  # the engines assert that they are in memory and idle
    assert world.ledger.peak <= budget * MB
    assert world.residency.held_bytes == world.ledger.now
    assert all(model.info.state is not ModelState.LOADING for model in world.models.values())


async def test_the_least_recently_used_model_makes_room() -> None:
    world = World({"a": 1, "b": 1, "c": 1}, budget=2)
    await world.call("a")
    await world.call("b")
    await world.call("a")
    await world.call("c")
    assert world.in_memory() == {"a", "c"}
    assert world.models["b"].info.state is ModelState.UNLOADED
    assert world.models["b"].info.fingerprint == world.models["b"].fingerprint(Truncation.END)


async def test_no_more_is_unloaded_than_is_needed() -> None:
    world = World({"a": 1, "b": 3, "c": 1}, budget=4)
    for name in ("a", "b", "c"):
        await world.call(name)
    assert world.in_memory() == {"b", "c"}


async def test_without_a_budget_everything_stays() -> None:
    world = World({"a": 10**6, "b": 10**6}, budget=None)
    await world.call("a")
    await world.call("b")
    assert world.in_memory() == {"a", "b"}


async def test_first_calls_at_once_load_once() -> None:
    world = World({"a": 1}, budget=1)
    world.engines["a"].load_seconds = 0.01
    await asyncio.gather(*(world.call("a") for _ in range(20)), world.models["a"].start(), world.models["a"].wake())
    assert world.engines["a"].loads == 1


async def test_a_caller_who_leaves_does_not_stop_the_load_that_others_wait_for() -> None:
    world = World({"a": 1}, budget=1)
    world.engines["a"].load_seconds = 0.05
    first, second = asyncio.create_task(world.call("a")), asyncio.create_task(world.call("a"))
    await until(lambda: world.engines["a"].loads == 1)
    first.cancel()
    await second
    assert world.engines["a"].loads == 1


async def test_work_that_waits_for_a_load_is_queued() -> None:
    world = World({"a": 1}, budget=1)
    world.engines["a"].load = EngineLoad(0, 400_000, None)
    world.engines["a"].load_seconds = 0.05
    calls = [asyncio.create_task(world.call("a")) for _ in range(10)]
    await until(lambda: world.engines["a"].loads == 1)
    calls.pop().cancel()
    await asyncio.sleep(0)
    assert world.models["a"].load == EngineLoad(9 * 4, 400_000, None)  # of "query: a", at four characters a token
    await asyncio.gather(*calls)
    assert world.models["a"].load == EngineLoad(0, 400_000, None)


async def test_a_model_larger_than_the_budget_is_refused_with_both_figures() -> None:
    world = World({"small": 100, "large": 14220}, budget=4000)
    with pytest.raises(ModelFailed, match=r"'large' cannot be loaded: it needs 14.22 GB .* budget is 4.00 GB"):
        await world.call("large")
    info = world.models["large"].info
    assert (info.state, world.engines["large"].loads) == (ModelState.FAILED, 0)
    assert "14.22 GB" in info.state_message
    await world.call("small")


async def test_a_load_waits_for_a_model_in_use() -> None:
    world = World({"a": 1, "b": 1}, budget=1)
    busy = asyncio.create_task(world.call("a", seconds=0.1))
    await until(lambda: bool(world.engines["a"].computing))
    await world.call("b")
    assert busy.done()
    assert world.in_memory() == {"b"}


async def test_a_load_that_finds_no_room_for_long_is_refused_and_the_model_in_use_goes_on() -> None:
    world = World({"a": 1000, "b": 500}, budget=1200, room_seconds=0.05)
    busy = asyncio.create_task(world.call("a", seconds=60))
    await until(lambda: bool(world.engines["a"].computing))
    with pytest.raises(Overloaded, match=r"'b' needs 0.50 GB; models in use hold 1.00 GB of 1.20 GB") as caught:
        await world.call("b")
    assert caught.value.retry_after > 0
    assert not busy.done()
    busy.cancel()
    await world.call("b")


async def test_a_load_that_fails_says_why_and_is_tried_again_after_a_pause_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(residency, "time", SimpleNamespace(monotonic=lambda: now))
    world = World({"bad": 1, "good": 1}, budget=1)
    world.engines["bad"].fault = "there are no weights"
    for _ in range(3):
        with pytest.raises(ModelFailed, match="there are no weights"):
            await world.call("bad")
    assert world.engines["bad"].loads == 1
    assert world.residency.held_bytes == 0
    await world.call("good")
    world.engines["bad"].fault = ""
    now = residency.RETRY_SECONDS + 1
    await world.models["bad"].wake()
    await world.call("bad")
    assert world.engines["bad"].loads == 2


async def test_starting_a_model_never_raises() -> None:
    world = World({"bad": 1, "large": 2}, budget=1)
    world.engines["bad"].fault = "there are no weights"
    await world.models["bad"].start()
    await world.models["large"].start()
    assert [world.models[name].info.state for name in ("bad", "large")] == [ModelState.FAILED] * 2


async def test_a_model_that_left_for_one_that_fails_still_makes_a_server() -> None:
    world = World({"good": 1, "bad": 1}, budget=1)
    world.engines["bad"].fault = "there are no weights"
    registry = ModelRegistry(list(world.models.values()))
    await registry.start()
    await (await registry.ready("good")).embed([], Truncation.END)
    await registry.close()


async def test_weights_that_take_more_than_was_estimated_push_others_out() -> None:
    world = World({"a": 5, "b": 4}, budget=10)
    world.engines["b"].real_bytes = 8 * MB
    await world.call("a")
    await world.call("b")
    assert world.in_memory() == {"b"}
    assert world.residency.held_bytes == 8 * MB


async def test_weights_that_turn_out_larger_than_the_budget_leave_memory() -> None:
    world = World({"a": 0}, budget=10)
    world.engines["a"].real_bytes = 30 * MB
    for _ in range(2):
        with pytest.raises(ModelFailed, match=r"it needs 0.03 GB of memory and the budget is 0.01 GB"):
            await world.call("a")
    assert (world.in_memory(), world.engines["a"].loads) == (set(), 1)


@pytest.mark.parametrize(("budget", "names"), [(None, "abc"), (6, "abc"), (5, "ab"), (4, "ac"), (0, "")])
async def test_models_are_preloaded_as_far_as_they_fit(budget: int | None, names: str) -> None:
    assert World({"a": 2, "b": 3, "c": 1}, budget).residency.fitting() == list(names)
