"""Channels: balanced over all replicas of a name, with safe retries, and errors of our own tree."""

import json
from collections.abc import AsyncIterable, AsyncIterator, Awaitable
from typing import Self, TypeVar

import grpc

from embedscale.client.errors import from_rpc_error

ResponseT = TypeVar("ResponseT")

MAX_MESSAGE_BYTES = 64 * 2**20
_LOOPBACK = ("127.", "localhost:", "[::1]", "ipv4:127.")

_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{"service": "embedscale.v1.EmbeddingService"}, {"service": "embedscale.v1.EvaluationService"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}


class Channel:
    """A connection to one address (`host:port`, or `dns:///name:port` for all replicas behind a name)."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.grpc = grpc.aio.insecure_channel(
            address,
            options=[
                ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
                ("grpc.enable_http_proxy", 0 if address.startswith(_LOOPBACK) else 1),
            ],
        )

    async def call(self, pending: Awaitable[ResponseT]) -> ResponseT:
        """Await a unary call; raises ClientError."""
        try:
            return await pending
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self.address) from None

    async def stream(self, pending: AsyncIterable[ResponseT]) -> AsyncIterator[ResponseT]:
        """Iterate over a stream's answers; raises ClientError."""
        try:
            async for response in pending:
                yield response
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self.address) from None

    async def close(self) -> None:
        """Close the connection at once."""
        await self.grpc.close()


class AsyncClosing:
    """A client that `async with` closes."""

    async def close(self) -> None:
        """Close all connections."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.close()
