"""What any store of evaluations keeps to: one contract for the file, for a Redis and for a cluster."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from embedscale.core.embedding import Encoding, Truncation
from embedscale.core.errors import EvaluationNotFound, Overloaded, StoreUnavailable
from embedscale.core.evaluation import (
    EvaluationSpec,
    Event,
    Failure,
    Loss,
    Metric,
    Progress,
    QueryResult,
    Result,
    Stage,
    State,
    Usage,
    Variant,
)
from embedscale.core.vector_index import IndexKind, IndexSpec, Similarity
from embedscale.evaluator.jobs import NEWEST
from embedscale.evaluator.redis_evaluations import RedisEvaluations
from embedscale.evaluator.sqlite_evaluations import SqliteEvaluations
from embedscale.evaluator.store import QUEUE, Claim, EvaluationStore, LeaseLost, QueueLimits, heard
from embedscale.servicekit.redis_url import parse_redis_url
from tests import redis_servers
from tests.waiting import eventually

INDEX = IndexSpec(IndexKind.HNSW, Similarity.COSINE, m=16)
SPEC = EvaluationSpec("model", "dataset", [1, 5], 128, Truncation.WINDOWS, [INDEX], [64], [Encoding.INT8], True)
METRIC = Metric("mrr", 5, 0.1 + 0.2, 1 / 3, 2 / 3)
VARIANT = Variant(INDEX, 64, Encoding.INT8, [METRIC], [Loss("mrr", 5, 0.1, -0.2)], 0.3, 80.5, 1e-4, 2e-4)
RESULT = Result([METRIC], 600, 9, Usage(1, 2, 3, 4, 0.5), "print", 128, "digest", 1.5, [VARIANT])
RESULTS = [QueryResult(f"q{n}", n % 3, [("d ü", 0.1), ("e", -1e-7)], {"d ü": 1, "x": -2}) for n in range(600)]
LEASE, SHORT_LEASE, LONG_LEASE = 0.6, 0.3, 60.0
"""Seconds: where it is kept and then runs out, where it runs out, and where it must not."""

IN_REDIS = pytest.mark.parametrize("place", ["redis", "cluster"], indirect=True)
"""For what several evaluators may do: a file is for one."""


@dataclass
class World:
    """Makes stores that share what they keep; `after_death` makes that of a replica to which the others have died."""

    open: Callable[[QueueLimits, float], EvaluationStore]
    shared: bool

    @asynccontextmanager
    async def store(self, lease_seconds: float = LONG_LEASE, **limits: int) -> AsyncIterator[EvaluationStore]:
        store = self.open(QueueLimits(**limits), lease_seconds)
        await store.start()
        try:
            yield store
        finally:
            await store.close()

    @asynccontextmanager
    async def after_death(self) -> AsyncIterator[EvaluationStore]:
        async with self.store(SHORT_LEASE) as store:
            if self.shared:
                await eventually(lambda: store.news.reached_for > SHORT_LEASE, "Redis is not reached")
            yield store


@pytest.fixture(scope="module", params=["file", "redis", "cluster"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str | None]:
    folder = tmp_path_factory.mktemp(request.param)
    with contextlib.ExitStack() as stack:
        if request.param == "file":
            yield None
        elif request.param == "redis":
            port, _ = stack.enter_context(redis_servers.plain(folder))
            yield f"redis://127.0.0.1:{port}/0"
        else:
            yield stack.enter_context(redis_servers.cluster(folder))[0]


@pytest.fixture
async def world(place: str | None, tmp_path: Path) -> World:
    if place is None:
        return World(lambda limits, _: SqliteEvaluations(tmp_path / "file.sqlite", limits), shared=False)
    url = parse_redis_url(place)
    world = World(lambda limits, lease_seconds: RedisEvaluations(url, limits, lease_seconds), shared=True)
    async with world.store() as store:
        for one in await store.page(NEWEST, 1000):
            await store.delete(one.id)
    return world


def event(claim: Claim, place: int, done: int) -> Event:
    progress = Progress(Stage.EMBED_CORPUS, done, 10, (METRIC,), Usage(inputs=done))
    return Event(claim.sequence + place, datetime.now(UTC), State.RUNNING, progress, claim.attempt)


async def sequences(store: EvaluationStore, evaluation_id: str) -> list[int]:
    return [one.sequence for one in await store.events(evaluation_id, 0, 1000)]


async def test_a_life_from_the_queue_to_the_results(world: World) -> None:
    async with world.store() as store:
        created = await store.create(SPEC, "me", "")
        assert (created.state, created.caller, created.attempt, created.queue_position) == (State.QUEUED, "me", 0, 1)
        assert abs((datetime.now(UTC) - created.created).total_seconds()) < 60
        claim = await store.claim()
        assert claim
        assert (claim.id, claim.attempt, claim.sequence, claim.taken_over) == (created.id, 1, 2, False)
        assert claim.spec == created.spec == SPEC
        assert await store.claim() is None
        recorded = [event(claim, 1, 5), event(claim, 2, 10)]
        await store.record(claim, recorded)
        await store.succeed(claim, RESULT, RESULTS)
        ended = await store.get(created.id)
        assert (ended.state, ended.attempt, ended.queue_position) == (State.SUCCEEDED, 1, 0)
        assert ended.result == RESULT
        assert ended.ended >= ended.created
        events = await store.events(created.id, 0, 1000)
        assert [one.sequence for one in events] == [1, 2, 3, 4, 5]
        assert [one.state.value for one in events] == ["queued", "running", "running", "running", "succeeded"]
        assert [one.attempt for one in events] == [0, 1, 1, 1, 1]
        assert events[2].progress == replace(recorded[0].progress, running=[METRIC])
        assert events[4].progress == events[3].progress
        assert [one.sequence for one in await store.events(created.id, 2, 2)] == [3, 4]
        for start, count in ((0, 1), (0, 600), (250, 20), (511, 2), (590, 100), (600, 5), (700, 5)):
            rows = await store.results(ended, start, count)
            assert [row.query_id for row in rows] == [row.query_id for row in RESULTS[start : start + count]]
        assert (await store.results(ended, 3, 1))[0] == RESULTS[3]


async def test_a_repeated_request_creates_nothing(world: World) -> None:
    async with world.store() as store:
        many = await asyncio.gather(*(store.create(SPEC, "me", "request") for _ in range(20)))
        assert len({one.id for one in many}) == 1
        assert len(await store.page(NEWEST, 10)) == 1
        await store.delete(many[0].id)
        assert (await store.create(SPEC, "me", "request")).id != many[0].id


async def test_the_queue_is_in_order_and_limited(world: World) -> None:
    async with world.store(queued=3) as store:
        created = [await store.create(SPEC, "me", "") for _ in range(3)]
        with pytest.raises(Overloaded):
            await store.create(SPEC, "me", "")
        assert [one.queue_position for one in created] == [1, 2, 3]
        await store.cancel(created[1].id)
        assert (await store.get(created[2].id)).queue_position == 2
        assert [(await store.claim()).id for _ in range(2)] == [created[0].id, created[2].id]
        assert await store.claim() is None


async def test_a_caller_at_its_limit_lets_others_pass(world: World) -> None:
    async with world.store(running_per_caller=1) as store:
        mine = [await store.create(SPEC, "me", "") for _ in range(3)]
        other = await store.create(SPEC, "other", "")
        first, second = await store.claim(), await store.claim()
        assert (first.id, second.id) == (mine[0].id, other.id)
        assert await store.claim() is None
        await store.cancel(mine[1].id)
        await store.fail(first, Failure("INTERNAL", "no"))
        assert (await store.claim()).id == mine[2].id


async def test_a_claim_is_void_once_the_evaluation_is_cancelled(world: World) -> None:
    async with world.store() as store:
        created = await store.create(SPEC, "me", "")
        claim = await store.claim()
        await store.record(claim, [event(claim, 1, 5)])
        assert (await store.cancel(created.id)).state is State.CANCELLED
        for step in (
            store.renew(claim),
            store.record(claim, [event(claim, 2, 6)]),
            store.succeed(claim, RESULT, RESULTS),
            store.fail(claim, Failure("INTERNAL", "no")),
            store.give_back(claim),
        ):
            with pytest.raises(LeaseLost):
                await step
        ended = await store.get(created.id)
        assert (ended.state, ended.result, ended.failure) == (State.CANCELLED, None, None)
        assert (await store.cancel(created.id)).state is State.CANCELLED
        events = await store.events(created.id, 0, 100)
        assert [one.sequence for one in events] == [1, 2, 3, 4]
        assert events[-1].progress.done == 5
        assert await store.results(ended, 0, 10) == []


async def test_what_is_given_back_is_taken_at_once_before_all_others(world: World) -> None:
    async with world.store() as store:
        first, second = [await store.create(SPEC, "me", "") for _ in range(2)]
        claim = await store.claim()
        await store.give_back(claim)
        waiting = await store.get(first.id)
        assert (waiting.state, waiting.queue_position) == (State.QUEUED, 1)
        again = await store.claim()
        assert (again.id, again.attempt, again.taken_over) == (first.id, 2, False)
        with pytest.raises(LeaseLost):
            await store.record(claim, [event(claim, 1, 5)])
        assert (await store.claim()).id == second.id
        assert await sequences(store, first.id) == [1, 2, 3, 4]


async def test_another_takes_over_from_the_dead_whose_writes_are_refused(world: World) -> None:
    async with contextlib.AsyncExitStack() as stack:
        dead = await stack.enter_async_context(world.store())
        created = await dead.create(SPEC, "me", "request")
        claim = await dead.claim()
        await dead.record(claim, [event(claim, 1, 5), event(claim, 2, 6)])
        if not world.shared:
            await dead.close()
        heir = await stack.enter_async_context(world.after_death())
        taken = await heir.claim()
        assert (taken.id, taken.attempt, taken.taken_over) == (created.id, 2, True)
        with pytest.raises(LeaseLost):
            await heir.record(claim, [event(claim, 3, 7)])
        with pytest.raises(LeaseLost):
            await heir.succeed(claim, RESULT, RESULTS[:1])
        await heir.record(taken, [event(taken, 1, 1)])
        await heir.succeed(taken, RESULT, RESULTS)
        assert (await heir.create(SPEC, "me", "request")).id == created.id
        ended = await heir.get(created.id)
        assert (ended.state, ended.attempt) == (State.SUCCEEDED, 2)
        assert len(await heir.results(ended, 0, 1000)) == len(RESULTS)
        numbers = await sequences(heir, created.id)
        assert numbers == list(range(1, len(numbers) + 1))
        if not world.shared:
            stack.pop_all()
            await heir.close()


@IN_REDIS
async def test_the_dead_are_found_behind_many_who_live(world: World) -> None:
    async with world.store() as living, world.store(LEASE) as heir:
        created = [await living.create(SPEC, "me", "") for _ in range(25)]
        claims = [await living.claim() for _ in created[:-1]]
        async with world.store() as dead:
            assert (await dead.claim()).id == created[-1].id
        await asyncio.sleep(LEASE * 1.5)
        await asyncio.gather(*map(living.renew, claims))
        taken = await heir.claim()
        assert (taken.id, taken.taken_over) == (created[-1].id, True)
        assert await heir.claim() is None


async def test_an_evaluation_that_kills_three_times_is_given_up(world: World) -> None:
    async with world.store() as store:
        created = await store.create(SPEC, "me", "")
        await store.claim()
    for attempt in (2, 3):
        async with world.after_death() as store:
            assert (await store.claim()).attempt == attempt
    async with world.after_death() as store:
        assert await store.claim() is None
        ended = await store.get(created.id)
        assert (ended.state, ended.failure.reason) == (State.FAILED, "EVALUATION_ABANDONED")
        assert "3 evaluators died" in ended.failure.message
        assert (await store.events(created.id, 0, 100))[-1].state is State.FAILED


@IN_REDIS
async def test_steps_may_be_repeated_when_nobody_knows_whether_they_were_done(world: World) -> None:
    async with world.store() as store:
        created = await store.create(SPEC, "me", "")
        claim = await store.claim()
        for _ in range(2):
            await store.record(claim, [event(claim, 1, 5), event(claim, 2, 6)])
        for _ in range(2):
            await store.succeed(claim, RESULT, RESULTS)
        assert await sequences(store, created.id) == [1, 2, 3, 4, 5]
        assert (await store.counts())[State.SUCCEEDED] == 1


async def test_a_lease_that_is_renewed_does_not_run_out(world: World) -> None:
    async with world.store() as store, contextlib.AsyncExitStack() as stack:
        await store.create(SPEC, "me", "")
        claim = await store.claim()
        other = await stack.enter_async_context(world.store(LEASE)) if world.shared else store
        for _ in range(3):
            await asyncio.sleep(LEASE / 2)
            await store.renew(claim)
            assert await other.claim() is None
        if world.shared:
            await asyncio.sleep(LEASE * 1.2)
            assert (await other.claim()).attempt == 2
            with pytest.raises(LeaseLost):
                await store.renew(claim)


async def test_pages_are_stable_while_others_come_and_go(world: World) -> None:
    async with world.store() as store:
        created = [(await store.create(SPEC, "me", "")).id for _ in range(7)]
        page = await store.page(NEWEST, 3)
        assert [one.id for one in page] == created[:3:-1]
        await store.create(SPEC, "me", "")
        await store.delete(page[-1].id)
        assert [one.id for one in await store.page(page[-1].ordinal, 10)] == created[3::-1]


async def test_deleting_forgets_everything(world: World) -> None:
    async with world.store() as store:
        created = await store.create(SPEC, "me", "")
        claim = await store.claim()
        await store.succeed(claim, RESULT, RESULTS)
        ended = await store.get(created.id)
        await store.delete(created.id)
        for step in (store.get, store.cancel, store.delete):
            with pytest.raises(EvaluationNotFound):
                await step(created.id)
        assert await store.results(ended, 0, 10) == []
        assert set((await store.counts()).values()) == {0}
        running = await store.create(SPEC, "me", "")
        claim = await store.claim()
        await store.delete(running.id)
        with pytest.raises(LeaseLost):
            await store.renew(claim)


async def test_old_evaluations_expire_by_number_and_by_age(world: World) -> None:
    async with world.store() as store:
        ids = [(await store.create(SPEC, "me", "")).id for _ in range(4)]
        for one in ids[:3]:
            await store.cancel(one)
        assert await store.expired(3, 60) == []
        assert list(await store.expired(2, 60)) == [ids[0]]
        await asyncio.sleep(0.05)
        assert set(await store.expired(10, 0.01)) == set(ids[:3])
        counts = await store.counts()
        assert (counts[State.QUEUED], counts[State.CANCELLED]) == (1, 3)


async def test_news_of_other_replicas_are_heard_soon(world: World) -> None:
    async with world.store() as store, contextlib.AsyncExitStack() as stack:
        other = await stack.enter_async_context(world.store()) if world.shared else store
        if world.shared:
            await eventually(lambda: store.news.reached_for, "nobody listens")
        queue = store.news.of(QUEUE)
        created = await other.create(SPEC, "me", "")
        await heard(queue, 10)
        assert queue.is_set()
        claimed = store.news.of(created.id)
        claim = await other.claim()
        await heard(claimed, 10)
        for change in (other.record(claim, [event(claim, 1, 5)]), other.cancel(created.id), other.delete(created.id)):
            news, untouched = store.news.of(created.id), store.news.of("another")
            await change
            await heard(news, 10)
            assert news.is_set()
            assert not untouched.is_set()


async def test_a_file_is_for_one_evaluator(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "file.sqlite"
    first, second = SqliteEvaluations(file, QueueLimits()), SqliteEvaluations(file, QueueLimits())
    await first.start()
    with pytest.raises(OSError, match="another evaluator"):
        await second.start()
    await first.close()


async def test_a_redis_that_is_away_is_said_clearly(tmp_path: Path) -> None:
    port = redis_servers.free_port()
    store = RedisEvaluations(parse_redis_url(f"redis://127.0.0.1:{port}/0"), QueueLimits(), LONG_LEASE)
    await store.start()
    with pytest.raises(StoreUnavailable, match="nothing is lost"):
        await store.create(SPEC, "me", "")
    with redis_servers.plain(tmp_path, port=port):
        assert (await store.create(SPEC, "me", "")).state is State.QUEUED
    await store.close()
