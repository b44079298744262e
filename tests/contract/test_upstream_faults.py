"""Whatever an upstream does, the proxy answers with the right status, loses no row and leaks nothing."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import grpc
import numpy as np
import pytest

from embedscale.embedding.catalog import Catalog
from embedscale.openai_proxy import bootstrap
from embedscale.openai_proxy.settings import ProxySettings
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from tests.conftest import RedisServer, free_port, served
from tests.contract.test_embedding_service import failure
from tests.contract.test_upstream_packing import MODEL, retry_seconds
from tests.fakes.faulty_upstream import DIMENSIONS, FaultyUpstream, running, vector

CATALOG = Catalog.model_validate({"models": {"remote": MODEL}})


STRANGE = [
    *("invalid json", "other model", "float16", "long"),
    *("html", "null", "string", "list", "no data", "null row", "missing row", "same index", "null index"),
    *("bad base64", "short vector", "null usage", "endless usage", "huge number", "deep json"),
]


@pytest.fixture
def upstream() -> Iterator[FaultyUpstream]:
    with running() as server:
        yield server


@dataclass
class Proxy:
    stub: EmbeddingServiceStub

    async def embed(self, *texts: str) -> pb.EmbedResponse:
        return await self.stub.Embed(pb.EmbedRequest(model="remote", inputs=[pb.Input(text=text) for text in texts]))


@pytest.fixture
async def proxy(
    stack: AsyncExitStack,
    upstream: FaultyUpstream,
    own_redis: RedisServer,
    channel_to: Callable,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Proxy:
    """Options of the proxy are the fixture's parameter. It waits long: a busy machine is no fault of the upstream."""
    monkeypatch.setenv("EMBEDSCALE_UPSTREAM_KEY_FAKE", "sk-very-secret")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-another-vendor")
    options = {"upstream_timeout_seconds": 20, "upstream_retries": 1} | getattr(request, "param", {})
    settings = ProxySettings(upstreams={"fake": upstream.url}, redis_url=own_redis.url, drain_seconds=0, **options)
    address = await served(stack, bootstrap.build(settings, CATALOG), settings)
    return Proxy(EmbeddingServiceStub(channel_to(address)))


@pytest.mark.parametrize("fault", ["", "reversed", "floats", "no usage"])
async def test_rows_are_right_in_every_form_that_an_upstream_may_answer_in(
    proxy: Proxy, upstream: FaultyUpstream, fault: str
) -> None:
    upstream.fault = fault
    texts = [f"text {index}" for index in range(100)]
    response = await proxy.embed(*texts)
    rows = np.frombuffer(response.embeddings, "<f4").reshape(100, DIMENSIONS)
    np.testing.assert_array_equal(rows, [vector(text) for text in texts])
    assert response.tokens_used == (0 if fault == "no usage" else 100)


@pytest.mark.parametrize(
    ("fault", "code", "reason", "calls"),
    [
        *((fault, "FAILED_PRECONDITION", "UPSTREAM_CHANGED", 1) for fault in STRANGE),
        ("nan", "INTERNAL", "NON_FINITE_EMBEDDING", 1),
        ("http401", "FAILED_PRECONDITION", "UPSTREAM_REFUSED_KEY", 1),
        ("http403", "FAILED_PRECONDITION", "UPSTREAM_REFUSED_KEY", 1),
        ("http400", "INVALID_ARGUMENT", "UPSTREAM_REJECTED", 3),
        ("http404", "INVALID_ARGUMENT", "UPSTREAM_REJECTED", 1),
        ("http429", "RESOURCE_EXHAUSTED", "UPSTREAM_RATE_LIMITED", 2),
        ("http500", "UNAVAILABLE", "UPSTREAM_UNAVAILABLE", 2),
        ("http503", "UNAVAILABLE", "UPSTREAM_UNAVAILABLE", 2),
        ("http408", "UNAVAILABLE", "UPSTREAM_UNAVAILABLE", 2),
        ("http409", "UNAVAILABLE", "UPSTREAM_UNAVAILABLE", 2),
        ("half", "UNAVAILABLE", "UPSTREAM_UNAVAILABLE", 2),
        ("reset", "UNAVAILABLE", "UPSTREAM_UNAVAILABLE", 2),
    ],
)
async def test_a_fault_has_its_status_and_nothing_of_it_is_kept(
    proxy: Proxy, upstream: FaultyUpstream, own_redis: RedisServer, fault: str, code: str, reason: str, calls: int
) -> None:
    before, upstream.fault = upstream.calls, fault
    found = await failure(proxy.embed("a", "b"))
    assert found[:2] == (grpc.StatusCode[code], reason)
    assert upstream.calls - before == calls
    assert own_redis.client.keys("es1:*") == []
    upstream.fault = ""
    response = await proxy.embed("a", "b")
    np.testing.assert_array_equal(
        np.frombuffer(response.embeddings, "<f4").reshape(2, DIMENSIONS), [vector("a"), vector("b")]
    )


@pytest.mark.parametrize("proxy", [{"upstream_timeout_seconds": 1}], indirect=True)
@pytest.mark.parametrize("fault", ["slow", "hang"])
async def test_an_answer_that_is_not_there_in_time_is_given_up(
    proxy: Proxy, upstream: FaultyUpstream, fault: str
) -> None:
    before, upstream.fault, started = upstream.calls, fault, time.monotonic()
    assert (await failure(proxy.embed("a")))[:2] == (grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE")
    assert upstream.calls - before == 2
    assert time.monotonic() - started < 2 * 3  # which it would take to hear both answers out


async def test_neither_key_nor_the_upstreams_words_reach_a_caller(proxy: Proxy, upstream: FaultyUpstream) -> None:
    for fault in ("http400", "http401", "http500", "http429"):
        upstream.fault = fault
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await proxy.embed("a")
        shown = f"{caught.value.details()} {caught.value.trailing_metadata()}"
        assert "secret" not in shown
        assert upstream.headers["authorization"] == "Bearer sk-very-secret"


async def test_an_upstream_is_told_nothing_meant_for_another(proxy: Proxy, upstream: FaultyUpstream) -> None:
    await proxy.embed("a")
    assert "org-of-another-vendor" not in upstream.headers.values()


async def test_retry_after_reaches_the_caller(proxy: Proxy, upstream: FaultyUpstream) -> None:
    upstream.fault = "http429 0.2"
    assert await retry_seconds(proxy.embed("a")) == ("RESOURCE_EXHAUSTED", 0.2)


async def test_one_upstream_that_is_down_leaves_the_other_serving(
    stack: AsyncExitStack, upstream: FaultyUpstream, channel_to: Callable
) -> None:
    entry = CATALOG.models["remote"]
    two = Catalog(models={"remote": entry, "down": entry.model_copy(update={"upstream": "down"})})
    nowhere = f"http://127.0.0.1:{free_port()}/v1"
    settings = ProxySettings(upstreams={"fake": upstream.url, "down": nowhere}, upstream_retries=0, drain_seconds=0)
    address = await asyncio.wait_for(served(stack, bootstrap.build(settings, two), settings), 60)
    stub = EmbeddingServiceStub(channel_to(address))
    await Proxy(stub).embed("a")
    models = {model.name: model for model in (await stub.ListModels(pb.ListModelsRequest())).models}
    assert models["remote"].state == pb.MODEL_STATE_READY
    assert models["down"].state == pb.MODEL_STATE_LOADING
    found = await failure(stub.Embed(pb.EmbedRequest(model="down", inputs=[pb.Input(text="a")])))
    assert found[:2] == (grpc.StatusCode.UNAVAILABLE, "STARTING")


@pytest.mark.parametrize("proxy", [{"upstream_retries": 0}], indirect=True)
async def test_logs_hold_neither_key_nor_the_upstreams_words(
    proxy: Proxy, upstream: FaultyUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for fault in ("http400", "http401", "http429", "http500", "html", "reset", "nan"):
        upstream.fault = fault
        await failure(proxy.embed("a"))
    assert upstream.headers["authorization"] == "Bearer sk-very-secret"
    assert "secret" not in caplog.text
    assert "authorization" not in caplog.text.lower()
