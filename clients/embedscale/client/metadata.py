"""Metadata that goes with each call: a token, what else the options name, and the trace that the call is a part of."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from embedscale.client.options import ClientOptions
from embedscale.tracing.spans import Span, tracing

Details = grpc.aio.ClientCallDetails
Continue = Callable[[Details, Any], Any]


def interceptors(options: ClientOptions) -> Sequence[grpc.aio.ClientInterceptor]:
    """Return what adds the metadata to calls; nothing where there is none."""
    if not (options.token or options.metadata or tracing()):
        return ()
    return _UnaryUnary(options), _UnaryStream(options)


class _Adding:
    def __init__(self, options: ClientOptions) -> None:
        self._options = options
        self._ending: set[asyncio.Task[None]] = set()

    async def _called(self, continuation: Continue, details: Details, request: Any) -> Any:
        method = _text(details.method).removeprefix("/")
        span = Span(method, {"rpc.system": "grpc"}, kind="CLIENT")
        added = (*self._options.call_metadata(), *span.headers.items())
        metadata = grpc.aio.Metadata(*(details.metadata or ()), *added)
        call = await continuation(
            Details(details.method, details.timeout, metadata, details.credentials, details.wait_for_ready), request
        )
        if span.headers:
            ending = asyncio.create_task(_ended(span, call))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
        return call


class _UnaryUnary(_Adding, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Continue, client_call_details: Details, request: Any) -> Any:
        """See `grpc.aio.UnaryUnaryClientInterceptor`."""
        return await self._called(continuation, client_call_details, request)


class _UnaryStream(_Adding, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Continue, client_call_details: Details, request: Any) -> Any:
        """See `grpc.aio.UnaryStreamClientInterceptor`."""
        return await self._called(continuation, client_call_details, request)


async def _ended(span: Span, call: Any) -> None:
    """End the span with its call, however that ends."""
    try:
        code = await call.code()
        span.set({"rpc.grpc.status_code": code.value[0]})
        if code is not grpc.StatusCode.OK:
            span.fail(code.name)
    finally:
        span.end()


def _text(method: str | bytes) -> str:
    return method.decode() if isinstance(method, bytes) else method
