"""A refused call leaves no cycle behind: under overload, refusals would pile up until the collector comes by."""

import gc
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest

from embedscale.core.errors import Overloaded
from embedscale.servicekit.interceptors import CallInterceptor
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1.embedding_service_pb2_grpc import (
    EmbeddingServiceServicer,
    EmbeddingServiceStub,
    add_EmbeddingServiceServicer_to_server,
)
from tests.waiting import eventually

OF_THE_LAST = 2
"""gRPC's loop knows the last call until the next one comes."""


class Refusing(EmbeddingServiceServicer):
    """Refuses everything."""

    async def Embed(self, request: pb.EmbedRequest, context: object) -> pb.EmbedResponse:
        raise Overloaded("too much", retry_after=1.0)

    async def EmbedStream(
        self, requests: AsyncIterator[pb.EmbedStreamRequest], context: object
    ) -> AsyncIterator[pb.EmbedStreamResponse]:
        raise Overloaded("too much", retry_after=1.0)
        yield


@pytest.fixture
def collector_at_rest() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("collector_at_rest")
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_refused_call_leaves_nothing_to_collect(*, streamed: bool) -> None:
    server = grpc.aio.server(interceptors=[CallInterceptor(slow_call_seconds=1)])
    add_EmbeddingServiceServicer_to_server(Refusing(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    before = left()  # of other tests
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = EmbeddingServiceStub(channel)
        for _ in range(20):
            with pytest.raises(grpc.aio.AioRpcError):
                await (stub.EmbedStream(iter(())).read() if streamed else stub.Embed(pb.EmbedRequest(model="m")))
        await eventually(lambda: left() <= before + OF_THE_LAST, "refusals are in memory", seconds=5)
    await server.stop(None)


def left() -> int:
    """Refusals that are still in memory, or the errors that gRPC ends their calls with."""
    return sum(type(one) in (Overloaded, grpc.aio.AbortError) for one in gc.get_objects())
