"""A refused call leaves no cycle behind: under overload, refusals would pile up until the collector comes by."""

import asyncio
import gc
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

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

ROOT = Path(__file__).parents[2]
CALLS = 20


class Refusing(EmbeddingServiceServicer):
    """Refuses everything."""

    async def Embed(self, request: pb.EmbedRequest, context: object) -> pb.EmbedResponse:
        raise Overloaded("too much", retry_after=1.0)

    async def EmbedStream(
        self, requests: AsyncIterator[pb.EmbedStreamRequest], context: object
    ) -> AsyncIterator[pb.EmbedStreamResponse]:
        raise Overloaded("too much", retry_after=1.0)
        yield


@pytest.mark.parametrize("kind", ["unary", "stream"])
def test_a_refused_call_leaves_nothing_to_collect(kind: str) -> None:
    """In a process of its own, in which no other test has left anything."""
    command = [sys.executable, "-m", "tests.contract.test_refused_calls", kind]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr


async def refusals(kind: str) -> None:
    """Have calls refused; raises AssertionError if they stay in memory."""
    server = grpc.aio.server(interceptors=[CallInterceptor(slow_call_seconds=1)])
    add_EmbeddingServiceServicer_to_server(Refusing(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = EmbeddingServiceStub(channel)
        for _ in range(CALLS):
            with suppress(grpc.aio.AioRpcError):
                await (stub.Embed(pb.EmbedRequest(model="m")) if kind == "unary" else stub.EmbedStream(iter(())).read())
        # gRPC's loop knows the last call until the next one comes; a cycle would be two of these a call.
        await eventually(lambda: left() < CALLS // 2, "refusals are in memory", seconds=10)
    await server.stop(None)


def left() -> int:
    """Refusals that are still in memory, or the errors that gRPC ends their calls with."""
    return sum(type(one) in (Overloaded, grpc.aio.AbortError) for one in gc.get_objects())


if __name__ == "__main__":
    gc.disable()
    asyncio.run(refusals(sys.argv[1]))
