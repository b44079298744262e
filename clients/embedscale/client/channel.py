"""Channels: balanced over all replicas of a name, with safe retries, and errors of our own tree."""

import json
from collections.abc import AsyncIterator, Awaitable, Sequence
from pathlib import Path
from typing import Self, TypeVar

import grpc

from embedscale.client.errors import from_rpc_error
from embedscale.client.metadata import interceptors
from embedscale.client.options import DEFAULT, LOOPBACK, ClientOptions

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")

MAX_MESSAGE_BYTES = 64 * 2**20

_RESOLVE_AGAIN_MS = 1_000
_RECONNECT_MS = 5_000
"""gRPC's own 30 s and 120 s leave a client with the addresses of replicas that a rollout has replaced."""

_ASK_AFTER_MS, _ANSWER_WITHIN_MS = 20_000, 20_000
"""A host that is lost tells nobody: without being asked, a call would wait for it until its deadline, and a watcher for
ever. Servers take such a question every 10 s."""

_RETRYABLE = ["UNAVAILABLE", "CANCELLED"]
"""A gRPC server that stops ends with CANCELLED what reaches it before its clients have heard of that."""

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
                "retryableStatusCodes": _RETRYABLE,
            },
        }
    ],
}


class Channel:
    """A connection to one address (`host:port`, or `dns:///name:port` for all replicas behind a name).

    Raises ValueError for a token that would travel in plain text, and OSError for a file that cannot be read.
    """

    def __init__(self, address: str, options: ClientOptions = DEFAULT) -> None:
        options.refuse_to_leak(address)
        self.address = address
        arguments = _arguments(address, options)
        added = interceptors(options)
        if options.encrypted:
            self.grpc = grpc.aio.secure_channel(address, _credentials(options), arguments, interceptors=added)
        else:
            self.grpc = grpc.aio.insecure_channel(address, arguments, interceptors=added)

    async def call(self, pending: Awaitable[ResponseT]) -> ResponseT:
        """Await a unary call; raises ClientError."""
        try:
            return await pending
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self.address) from None

    async def stream(self, pending: "grpc.aio.UnaryStreamCall[RequestT, ResponseT]") -> AsyncIterator[ResponseT]:
        """Iterate over a stream's answers; who stops iterating ends the call. Raises ClientError."""
        try:
            async for response in pending:
                yield response
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self.address) from None
        finally:
            pending.cancel()

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


def opened(addresses: Sequence[str], options: ClientOptions) -> list[Channel]:
    """One channel an address. Raises ValueError if there is none."""
    if not addresses or isinstance(addresses, str):
        raise ValueError("addresses must be a list of at least one host:port")
    return [Channel(address, options) for address in addresses]


def _arguments(address: str, options: ClientOptions) -> list[tuple[str, str | int]]:
    arguments: list[tuple[str, str | int]] = [
        ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.enable_http_proxy", 0 if address.startswith(LOOPBACK) else 1),
        ("grpc.dns_min_time_between_resolutions_ms", _RESOLVE_AGAIN_MS),
        ("grpc.max_reconnect_backoff_ms", _RECONNECT_MS),
        ("grpc.keepalive_time_ms", _ASK_AFTER_MS),
        ("grpc.keepalive_timeout_ms", _ANSWER_WITHIN_MS),
        ("grpc.http2.ping_timeout_ms", _ANSWER_WITHIN_MS),  # else a minute, whatever the line above says
        ("grpc.http2.max_pings_without_data", 0),
    ]
    if options.server_name:
        arguments.append(("grpc.ssl_target_name_override", options.server_name))
    return arguments


def _credentials(options: ClientOptions) -> grpc.ChannelCredentials:
    files = (options.ca_file, options.key_file, options.certificate_file)
    authorities, key, certificate = (Path(file).read_bytes() if file else None for file in files)
    return grpc.ssl_channel_credentials(authorities, key, certificate)
