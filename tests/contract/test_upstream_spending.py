"""What calls to an upstream cost: told in answers, metrics and evaluations, and limited for all replicas together."""

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from prometheus_client import REGISTRY

from embedscale.client import AsyncEvaluationClient
from embedscale.core.errors import SpendingLimitReached
from embedscale.evaluator import bootstrap as evaluator_bootstrap
from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.openai_proxy.shared_state import SharedState
from embedscale.openai_proxy.spending import Spending
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1 import evaluation_service_pb2 as evaluation_pb
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from tests.conftest import RedisServer, served
from tests.contract.conftest import finished
from tests.contract.test_embedding_service import failure
from tests.contract.test_upstream_packing import embed, proxied
from tests.fakes.faulty_upstream import FaultyUpstream, running

pytestmark = pytest.mark.usefixtures("patience")


@pytest.fixture
def upstream() -> Iterator[FaultyUpstream]:
    with running() as server:
        yield server


async def test_spending_is_shared_and_ends_with_the_limit(state: SharedState, own_redis: RedisServer) -> None:
    one, two = Spending("u", 1.0, state), Spending("u", 1.0, state)
    day = await one.reserve(0.6)
    with pytest.raises(SpendingLimitReached) as caught:
        await two.reserve(0.6)
    assert 0 < caught.value.retry_after <= 86400
    await one.settle(day, 0.6, 0.1)
    await two.reserve(0.6)
    assert day == datetime.now(UTC).date().isoformat()
    assert int(own_redis.client.get(f"es1-spent:{{u}}:{day}")) == 700_000_000
    own_redis.stop()
    await two.reserve(0.3)
    with pytest.raises(SpendingLimitReached):
        await two.reserve(0.1)


def dollars() -> float:
    return REGISTRY.get_sample_value("embedscale_upstream_dollars_total", {"model": "remote"})


async def test_cost_is_in_the_answer_and_in_the_metrics_and_spending_ends_with_the_limit(
    stack: AsyncExitStack, upstream: FaultyUpstream, channel_to: Callable, own_redis: RedisServer
) -> None:
    limits, options = {"dollars_per_day": 0.05}, {"redis_url": own_redis.url, "cache_memory_bytes": 2**20}
    address = await proxied(stack, upstream, limits, price_per_million_tokens=1000.0, **options)
    stub = EmbeddingServiceStub(channel_to(address))
    before = dollars()
    request = pb.EmbedRequest(model="remote", inputs=[pb.Input(text=text) for text in "abcdefghij"])
    response = await stub.Embed(request)
    assert (response.tokens_used, response.cost) == (10, pytest.approx(0.01))
    assert dollars() - before == pytest.approx(0.01)
    again = await stub.Embed(request)
    assert (again.tokens_used, again.cost) == (0, 0)
    calls = upstream.calls
    found = await failure(embed(stub, [f"text {number}" for number in range(100)]))
    assert found[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SPENDING_LIMIT")
    assert upstream.calls == calls


@pytest.mark.parametrize(
    ("fault", "charged"),
    [
        ("http429", 0),
        ("http500", 0),
        ("http400", 0),
        ("http401", 0),
        ("half", 1),
        ("reset", 1),
        ("hang", 1),
        ("html", 1),
    ],
)
async def test_what_an_upstream_may_have_computed_counts_as_spent(
    stack: AsyncExitStack,
    upstream: FaultyUpstream,
    channel_to: Callable,
    own_redis: RedisServer,
    fault: str,
    charged: int,
) -> None:
    seconds = 1 if fault == "hang" else 20
    options = {"redis_url": own_redis.url, "upstream_retries": 0, "upstream_timeout_seconds": seconds}
    address = await proxied(stack, upstream, {"dollars_per_day": 1}, price_per_million_tokens=1000.0, **options)
    (key,), upstream.fault = own_redis.client.keys("es1-spent:*"), fault
    before = int(own_redis.client.get(key)), dollars()
    await failure(embed(EmbeddingServiceStub(channel_to(address)), ["a"]))
    assert int(own_redis.client.get(key)) - before[0] == charged * 1_000_000
    assert dollars() - before[1] == pytest.approx(charged * 0.001)


async def test_a_caller_who_gives_up_takes_nothing_along_that_redis_was_to_be_told(
    state: SharedState, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    spending = Spending("u", 1.0, state)
    monkeypatch.setattr(state, "_passed_over_until", math.inf)
    day = await spending.reserve(0.6)
    monkeypatch.setattr(state, "_passed_over_until", 0.0)
    own_redis.client.client_pause(500)  # a socket gives up after a second
    reserving = asyncio.create_task(spending.reserve(0.1))
    await asyncio.sleep(0.03)
    reserving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reserving
    await spending.settle(day, 0.6, 0.5)
    assert int(own_redis.client.get(f"es1-spent:{{u}}:{day}")) == 500_000_000


async def test_what_is_spent_while_redis_is_away_is_told_to_it_afterwards(
    state: SharedState, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    spending = Spending("u", 1.0, state)
    await spending.reserve(0.1)
    monkeypatch.setattr(state, "_passed_over_until", math.inf)
    day = await spending.reserve(0.6)
    monkeypatch.setattr(state, "_passed_over_until", 0.0)
    await spending.settle(day, 0.6, 0.5)
    assert int(own_redis.client.get(f"es1-spent:{{u}}:{day}")) == 600_000_000
    with pytest.raises(SpendingLimitReached):
        await Spending("u", 1.0, state).reserve(0.5)


async def test_an_evaluation_adds_up_what_its_answers_cost(
    stack: AsyncExitStack, upstream: FaultyUpstream, data: Path
) -> None:
    address = await proxied(stack, upstream, {}, price_per_million_tokens=1000.0)
    given = EvaluatorSettings(
        embedding_addresses=[address], dataset_roots=[data], drain_seconds=0, data_folder=data / "state"
    )
    evaluator = await served(stack, evaluator_bootstrap.build(given), given)
    async with AsyncEvaluationClient(evaluator) as client:
        evaluation = await finished(client, "remote", str(data / "small.json"))
    assert evaluation.state == evaluation_pb.EVALUATION_STATE_SUCCEEDED
    assert evaluation.result.usage.cost == pytest.approx(5 * 1000 / 1e6)
