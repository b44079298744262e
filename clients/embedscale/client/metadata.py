"""Metadata that goes with each call: a token and what else the options name."""

from collections.abc import Callable, Sequence
from typing import Any

import grpc

from embedscale.client.options import ClientOptions

Details = grpc.aio.ClientCallDetails
Continue = Callable[[Details, Any], Any]


def interceptors(options: ClientOptions) -> Sequence[grpc.aio.ClientInterceptor]:
    """Return what adds the metadata to calls; nothing where there is none."""
    if not (options.token or options.metadata):
        return ()
    return _UnaryUnary(options), _UnaryStream(options)


class _Adding:
    def __init__(self, options: ClientOptions) -> None:
        self._options = options

    def _with_metadata(self, details: Details) -> Details:
        metadata = grpc.aio.Metadata(*(details.metadata or ()), *self._options.call_metadata())
        return Details(details.method, details.timeout, metadata, details.credentials, details.wait_for_ready)


class _UnaryUnary(_Adding, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Continue, client_call_details: Details, request: Any) -> Any:
        """See `grpc.aio.UnaryUnaryClientInterceptor`."""
        return await continuation(self._with_metadata(client_call_details), request)


class _UnaryStream(_Adding, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Continue, client_call_details: Details, request: Any) -> Any:
        """See `grpc.aio.UnaryStreamClientInterceptor`."""
        return await continuation(self._with_metadata(client_call_details), request)
