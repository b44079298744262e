"""TLS, mutual TLS, tokens and metadata, for every client in both forms, against a server that has them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from embedscale.client import (
    AsyncCacheClient,
    AsyncEmbeddingClient,
    AsyncEvaluationClient,
    CacheClient,
    ClientOptions,
    EmbeddingClient,
    EvaluationClient,
    Unauthenticated,
    Unavailable,
)
from embedscale.v1 import cache_service_pb2 as cache_pb
from embedscale.v1 import evaluation_service_pb2 as pb
from embedscale.v1.cache_service_pb2_grpc import CacheServiceServicer, add_CacheServiceServicer_to_server
from embedscale.v1.embedding_service_pb2_grpc import add_EmbeddingServiceServicer_to_server
from embedscale.v1.evaluation_service_pb2_grpc import (
    EvaluationServiceServicer,
    add_EvaluationServiceServicer_to_server,
)
from tests.conftest import RedisServer, free_port
from tests.fakes.moody_server import MOODY, MoodyServer

TOKEN = "hunter2"


class Evaluations(EvaluationServiceServicer):
    async def ListDatasets(self, request: pb.ListDatasetsRequest, context: Any) -> pb.ListDatasetsResponse:
        return pb.ListDatasetsResponse(datasets=[pb.Dataset(uri="x")])

    async def WatchEvaluation(
        self, request: pb.WatchEvaluationRequest, context: Any
    ) -> AsyncIterator[pb.WatchEvaluationResponse]:
        for sequence in range(3):
            yield pb.WatchEvaluationResponse(event=pb.EvaluationEvent(sequence=sequence))


class Caches(CacheServiceServicer):
    async def PurgeCache(self, request: cache_pb.PurgeCacheRequest, context: Any) -> cache_pb.PurgeCacheResponse:
        return cache_pb.PurgeCacheResponse(purged_vectors=5)

    async def GetCacheStats(
        self, request: cache_pb.GetCacheStatsRequest, context: Any
    ) -> cache_pb.GetCacheStatsResponse:
        return cache_pb.GetCacheStatsResponse()


class Guard(grpc.aio.ServerInterceptor):
    """Asks for the token."""

    def __init__(self) -> None:
        async def refuse(request: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no")

        self.refusal = grpc.unary_unary_rpc_method_handler(refuse)
        self.seen: list[dict[str, Any]] = []

    async def intercept_service(self, continuation: Callable, details: grpc.HandlerCallDetails) -> Any:
        self.seen.append(dict(details.invocation_metadata))
        if self.seen[-1].get("authorization") != f"Bearer {TOKEN}":
            return self.refusal
        return await continuation(details)


@dataclass(frozen=True)
class Secured:
    address: str
    guard: Guard
    folder: Path

    def options(self, **changed: Any) -> ClientOptions:
        files = {
            "ca_file": self.folder / "ca.pem",
            "certificate_file": self.folder / "me.pem",
            "key_file": self.folder / "me.key",
        }
        return ClientOptions(**{**files, "token": TOKEN, **changed})


@pytest.fixture
async def secured(stack: AsyncExitStack, tmp_path: Path) -> Secured:
    """A server of all services, with mutual TLS and a token."""
    authority = trustme.CA()
    theirs, mine = authority.issue_cert("localhost"), authority.issue_cert("me")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    mine.private_key_pem.write_to_path(tmp_path / "me.key")
    for blob in mine.cert_chain_pems:
        blob.write_to_path(tmp_path / "me.pem", append=True)
    guard = Guard()
    server = grpc.aio.server(interceptors=[guard])
    add_EmbeddingServiceServicer_to_server(MoodyServer(), server)
    add_EvaluationServiceServicer_to_server(Evaluations(), server)
    add_CacheServiceServicer_to_server(Caches(), server)
    pairs = [(theirs.private_key_pem.bytes(), b"".join(blob.bytes() for blob in theirs.cert_chain_pems))]
    credentials = grpc.ssl_server_credentials(pairs, authority.cert_pem.bytes(), require_client_auth=True)
    port = server.add_secure_port("localhost:0", credentials)
    await server.start()
    stack.push_async_callback(server.stop, 0)
    return Secured(f"localhost:{port}", guard, tmp_path)


async def test_every_client_gets_through(secured: Secured) -> None:
    options = secured.options(metadata=[("team", "search")])
    async with AsyncEmbeddingClient([secured.address], options) as embedding:
        assert (await embedding.embed(["a"] * 20, model=MOODY)).vectors.shape == (20, 384)
    async with AsyncEvaluationClient(secured.address, options) as evaluation:
        assert [one.uri for one in await evaluation.datasets()] == ["x"]
        assert [event.sequence async for event in evaluation.watch("x")] == [0, 1, 2]
    async with AsyncCacheClient([secured.address], options) as caches:
        assert await caches.purge(model="x") == 5

    def use() -> None:
        with EmbeddingClient([secured.address], options) as embedding:
            assert embedding.embed(["a"] * 20, model=MOODY).vectors.shape == (20, 384)
        with EvaluationClient(secured.address, options) as evaluation:
            assert [event.sequence for event in evaluation.watch("x")] == [0, 1, 2]
        with CacheClient([secured.address], options) as caches:
            assert caches.purge(model="x") == 5
            assert list(caches.stats()) == [secured.address]

    await asyncio.to_thread(use)
    assert {seen["team"] for seen in secured.guard.seen} == {"search"}


async def test_a_token_may_change_between_calls(secured: Secured) -> None:
    tokens = iter([f"{TOKEN}\n", "stale"])
    async with AsyncEvaluationClient(secured.address, secured.options(token=lambda: next(tokens))) as client:
        await client.datasets()
        with pytest.raises(Unauthenticated) as refused:
            await client.datasets()
    assert "stale" not in str(refused.value)


@pytest.mark.parametrize("token", ["", "wrong"])
async def test_a_missing_or_wrong_token_is_refused(secured: Secured, token: str) -> None:
    async with AsyncEmbeddingClient([secured.address], secured.options(token=token)) as client:
        with pytest.raises(Unauthenticated):
            await client.embed(["a"], model=MOODY)


async def is_told(address: str, options: ClientOptions, why: str) -> None:
    async with AsyncEmbeddingClient([address], options) as client:
        with pytest.raises(Unavailable, match=f"no server answers at {address}: .*{why}"):
            await client.embed(["a"], model=MOODY)


async def test_strangers_do_not_get_through_and_are_told_why(secured: Secured, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    strangers = {
        "not signed by an authority": secured.options(ca_file=tmp_path / "other.pem"),
        "it may want TLS.*or a certificate": secured.options(certificate_file=None, key_file=None),
        "for another name": secured.options(server_name="elsewhere"),
        "it may want TLS": ClientOptions(token=TOKEN),
    }
    await asyncio.gather(*(is_told(secured.address, options, why) for why, options in strangers.items()))


async def test_what_is_wrong_with_an_address_is_said(embedder: str, shared_redis: RedisServer) -> None:
    wrong = {
        "nothing listens there": (f"127.0.0.1:{free_port()}", ClientOptions()),
        "cannot be resolved": ("nowhere.invalid:50051", ClientOptions()),
        "does not speak TLS": (embedder, ClientOptions(tls=True)),
        "does not speak gRPC": (f"127.0.0.1:{shared_redis.port}", ClientOptions()),
    }
    await asyncio.gather(*(is_told(address, options, why) for why, (address, options) in wrong.items()))


async def test_the_servers_name_may_differ_from_its_address(secured: Secured) -> None:
    by_number = secured.address.replace("localhost", "127.0.0.1")
    async with AsyncEmbeddingClient([by_number], secured.options(server_name="localhost")) as client:
        assert len(await client.models()) == 1


def test_options_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="key_file"):
        ClientOptions(certificate_file="me.pem")
    with pytest.raises(ValueError, match="server_name"):
        ClientOptions(server_name="x")
    with pytest.raises(ValueError, match="needs TLS"):
        EmbeddingClient(["embedder.example:50051"], ClientOptions(token=TOKEN))
    with pytest.raises(FileNotFoundError):
        EvaluationClient("x:1", ClientOptions(ca_file=tmp_path / "nowhere.pem"))
    assert TOKEN not in repr(ClientOptions(token=TOKEN, metadata=[("key", TOKEN)]))
