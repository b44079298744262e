"""Identical work in flight is done once, nobody fails or waits because of others, and order survives any mix."""

import asyncio
import random
import time
import uuid
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedscale.core.embedding import Embedding, PreparedText, Truncation, VectorSpace
from embedscale.core.errors import InputTooLong
from embedscale.embedding.cache_meter import CacheMeter
from embedscale.embedding.leases import NoLeases
from embedscale.embedding.memory_cache import MemoryCache
from embedscale.embedding.patience import within
from embedscale.embedding.read_through import Found, ReadThrough
from embedscale.embedding.single_flight import SingleFlight
from embedscale.embedding.tiered_cache import TieredVectorCache
from tests.fakes.hash_engine import MAX_TOKENS, HashEngine, hashed

LONG = " ".join(["word"] * (MAX_TOKENS + 1))


def through(limit_bytes: int = 2**20) -> ReadThrough:
    return ReadThrough(TieredVectorCache(MemoryCache(limit_bytes), None, CacheMeter()), NoLeases())


def prepared(texts: Sequence[str]) -> list[PreparedText]:
    return [PreparedText(text) for text in texts]


async def embed(vectors: ReadThrough, engine: HashEngine, texts: Sequence[str], end: bool = False) -> Found:
    return await vectors.embed(engine, prepared(texts), Truncation.END if end else Truncation.ERROR)


async def engine(seconds: float = 0.0) -> HashEngine:
    made = HashEngine(seconds=seconds)
    await made.start()
    return made


async def until_computing(hasher: HashEngine) -> None:
    while not hasher.batches:  # noqa: ASYNC110
        await asyncio.sleep(0)


def assert_right(found: Found, texts: Sequence[str]) -> None:
    assert len(found.embeddings) == len(found.hits) == len(texts)
    for text, entry in zip(texts, found.embeddings, strict=True):
        expected = hashed(" ".join(text.split(" ")[:MAX_TOKENS]))
        np.testing.assert_array_equal(entry.vector, expected)


async def test_callers_at_the_same_time_compute_a_text_once() -> None:
    hasher, vectors = await engine(0.02), through(0)
    answers = await asyncio.gather(*(embed(vectors, hasher, ["a", "b", str(number)]) for number in range(10)))
    assert sorted(hasher.computed) == sorted(["a", "b", *map(str, range(10))])
    for number, found in enumerate(answers):
        assert_right(found, ["a", "b", str(number)])
    assert sum(found.tokens_used for found in answers) == 12


async def test_a_caller_that_leaves_does_not_fail_the_others() -> None:
    hasher, vectors = await engine(0.05), through(0)
    first = asyncio.create_task(embed(vectors, hasher, ["a"]))
    second = asyncio.create_task(embed(vectors, hasher, ["a"]))
    await until_computing(hasher)
    first.cancel()
    assert_right(await second, ["a"])
    assert hasher.computed == ["a"]
    assert first.cancelled()


async def test_work_that_nobody_waits_for_is_cancelled_and_not_joined() -> None:
    hasher, vectors = await engine(0.05), through(0)
    callers = [asyncio.create_task(embed(vectors, hasher, ["a"])) for _ in range(3)]
    await until_computing(hasher)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    assert_right(await embed(vectors, hasher, ["a"]), ["a"])
    assert hasher.cancelled == 1
    assert hasher.computed == ["a", "a"]


async def test_a_text_that_is_too_long_fails_only_who_asked_for_it() -> None:
    hasher, vectors = await engine(0.02), through(0)
    wrong = asyncio.create_task(embed(vectors, hasher, ["a", "b", LONG]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    right = asyncio.create_task(embed(vectors, hasher, ["b", "c"]))
    cut = asyncio.create_task(embed(vectors, hasher, [LONG, "a"], end=True))
    with pytest.raises(InputTooLong) as caught:
        await wrong
    assert caught.value.position == 2
    assert_right(await right, ["b", "c"])
    assert_right(await cut, [LONG, "a"])


async def test_a_failure_of_the_engine_is_everybodys_and_is_not_kept() -> None:
    flights: SingleFlight[str, int] = SingleFlight((ValueError,))

    async def fail(keys: Sequence[str]) -> Mapping[str, int]:
        await asyncio.sleep(0.01)
        raise ConnectionError

    async def work(keys: Sequence[str]) -> Mapping[str, int]:
        return dict.fromkeys(keys, 1)

    outcomes = await asyncio.gather(*(flights.run(["a"], fail) for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ConnectionError] * 3
    assert await flights.run(["a"], work) == ({"a": 1}, 0)


call = st.tuples(
    st.lists(st.sampled_from([*"abcdefgh", LONG]), min_size=1, max_size=12),
    st.booleans(),
    st.integers(0, 4),
    st.booleans(),
)


@given(calls=st.lists(call, min_size=1, max_size=8), limit=st.sampled_from([0, 5000, 2**20]))
@settings(max_examples=150, deadline=None)
def test_any_mix_of_hits_misses_duplicates_failures_and_departures(
    calls: list[tuple[list[str], bool, int, bool]], limit: int
) -> None:
    async def scenario() -> None:
        hasher, vectors = await engine(0.002), through(limit)

        async def one(texts: list[str], end: bool, pause: int, leaves: bool) -> None:
            await asyncio.sleep(pause / 1000)
            task = asyncio.create_task(embed(vectors, hasher, texts, end))
            if leaves:
                await asyncio.sleep(0.001)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            elif LONG in texts and not end:
                with pytest.raises(InputTooLong) as caught:
                    await task
                assert caught.value.position == texts.index(LONG)
            else:
                found = await task
                assert_right(found, texts)

        await asyncio.gather(*(one(*each) for each in calls))

    asyncio.run(scenario())


async def test_cached_and_uncached_answers_are_the_same_bytes() -> None:
    """3,000 mixed requests: a cache so small that it forgets, a large one, and none."""
    hasher = await engine()
    caches = [through(0), through(40_000), through(2**24)]
    pick = random.Random(3)
    pool = [f"{uuid.UUID(int=pick.getrandbits(128))}" for _ in range(200)] + [LONG]
    for _ in range(3_000):
        texts = pick.choices(pool, k=pick.choice((1, 2, 5)))
        end = pick.random() < 0.8
        answers = []
        for vectors in caches:
            try:
                found = await embed(vectors, hasher, texts, end)
                answers.append([_bytes(entry) for entry in found.embeddings])
            except InputTooLong as error:
                answers.append([str(error)])
        assert answers[0] == answers[1] == answers[2]


def _bytes(entry: Embedding) -> tuple[bytes, int | None, bool]:
    return entry.vector.tobytes(), entry.token_count, entry.truncated


def test_memory_is_bounded_and_drops_what_was_used_least_recently() -> None:
    memory = MemoryCache(10_000)
    vector = Embedding(np.zeros(384, np.float32), 1, truncated=False)
    for number in range(20):
        memory.put(b"%d" % number, vector)
        memory.get([b"0"])
        assert memory.used_bytes <= 10_000
    assert memory.get([b"0", b"19", b"1"]) == [vector, vector, None]
    memory.put(b"large", Embedding(np.zeros(10_000, np.float32), 1, truncated=False))
    assert memory.get([b"large"]) == [None]
    memory.clear()
    assert (memory.used_bytes, len(memory)) == (0, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 2.0])
def test_only_sound_vectors_enter(value: float) -> None:
    cache = TieredVectorCache(MemoryCache(2**20), None, CacheMeter())
    good, bad = np.asarray([1, 0], np.float32), np.asarray([value, 0], np.float32)
    space = VectorSpace("f" * 32, 2, normalized=True)
    rows = {"good": good, "bad": bad, "short": good[:1]}
    cache.put(space, {PreparedText(name): Embedding(row, 1, truncated=False) for name, row in rows.items()})
    assert len(cache.memory) == 1
    assert cache.meter.errors == {"unsound": 2}


async def test_an_operation_that_takes_too_long_is_cancelled() -> None:
    ended = asyncio.Event()

    async def operation() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        await within(0.01, operation())
    await asyncio.wait_for(ended.wait(), 60)


async def test_a_late_answer_that_has_arrived_counts() -> None:
    arrived: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def operation() -> int:
        return await arrived

    waiting = asyncio.create_task(within(0.01, operation()))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(arrived.set_result, 7)
    time.sleep(0.05)  # noqa: ASYNC251
    assert await waiting == 7
