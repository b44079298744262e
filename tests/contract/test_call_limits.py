"""Calls that are refused for being too many or too large, before anything is computed for them."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from embedscale.client import AsyncEmbeddingClient, ClientOptions, InvalidArgument, ResourceExhausted
from embedscale.embedding.bootstrap import build_application
from embedscale.embedding.settings import EmbeddingServerSettings
from tests.conftest import served
from tests.fakes.hash_engine import HASH, HashEngine
from tests.waiting import eventually

FOREVER_SECONDS = 3600


async def test_more_calls_than_may_be_served_at_once_are_refused_and_told_when_to_come_back(
    stack: AsyncExitStack,
) -> None:
    chosen = EmbeddingServerSettings(max_concurrent_calls=2, drain_seconds=0)
    engine = HashEngine(seconds=FOREVER_SECONDS)
    address = await served(stack, build_application([engine], chosen), chosen)
    async with AsyncEmbeddingClient([address], ClientOptions(retries=0)) as client:
        await client.model(HASH)  # and it need not be looked for any more
        working = [asyncio.create_task(client.embed([text], model=HASH)) for text in ("a", "b")]
        await eventually(lambda: len(engine.batches) == len(working), "the first calls are not served")
        engine.seconds = 0
        others = await asyncio.gather(*(client.embed(["c"], model=HASH) for _ in range(4)), return_exceptions=True)
        assert [(type(one), one.retry_after) for one in others] == [(ResourceExhausted, 1.0)] * 4

        async def is_served() -> bool:
            (outcome,) = await asyncio.gather(client.embed(["c"], model=HASH), return_exceptions=True)
            return not isinstance(outcome, ResourceExhausted)

        for call in working:
            call.cancel()
        await eventually(is_served, "callers who left keep their places")
        for _ in range(3):  # nor do those who were served
            await client.embed(["c"], model=HASH)


async def test_a_text_beyond_the_limit_is_refused_before_it_is_tokenized(stack: AsyncExitStack) -> None:
    chosen = EmbeddingServerSettings(max_text_characters=10, drain_seconds=1)
    engine = HashEngine()
    address = await served(stack, build_application([engine], chosen), chosen)
    async with AsyncEmbeddingClient([address]) as client:
        await client.embed(["0123456789"], model=HASH)
        for ask in (client.embed, client.count_tokens):
            with pytest.raises(InvalidArgument, match="has 11 characters, and 10 are allowed") as caught:
                await ask(["a", "0123456789x"], model=HASH)
            assert caught.value.field == "inputs[1].text"
    assert engine.batches == [["0123456789"]]
