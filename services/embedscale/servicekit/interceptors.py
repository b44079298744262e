"""What happens around every call: errors become statuses, and calls are counted."""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from embedscale.core.errors import EmbedscaleError, InvalidField
from embedscale.servicekit.server_facts import server_facts
from embedscale.servicekit.status import internal_status, logged_incident, to_status
from embedscale.servicekit.telemetry import CALL_SECONDS, CALLS

Context = grpc.aio.ServicerContext[Any, Any]
Continue = Callable[[grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any] | None"]]


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps unary and streaming handlers alike, each once."""

    def __init__(self) -> None:
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self, continuation: Continue, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """See `grpc.aio.ServerInterceptor`."""
        method = handler_call_details.method
        if method in self._wrapped:
            return self._wrapped[method]
        handler = await continuation(handler_call_details)
        if handler is None or not method.startswith("/embedscale."):
            return handler
        self._wrapped[method] = _wrapped(handler, method)
        return self._wrapped[method]


def _wrapped(handler: "grpc.RpcMethodHandler[Any, Any]", method: str) -> "grpc.RpcMethodHandler[Any, Any]":
    streams_in, streams_out = handler.request_streaming, handler.response_streaming
    name = "_".join(("stream" if streams_in else "unary", "stream" if streams_out else "unary"))
    wrap = _wrap_stream if streams_out else _wrap_unary
    read = _each_readable if streams_in else _readable
    make = getattr(grpc, f"{name}_rpc_method_handler")
    wrapped: grpc.RpcMethodHandler[Any, Any] = make(
        wrap(getattr(handler, name), method, read), _kept(handler.request_deserializer), handler.response_serializer
    )
    return wrapped


def _kept(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """Return what cannot be read as an error: raised here, it would become UNKNOWN with the text of an exception."""
    if deserialize is None:
        return None

    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return InvalidField("the request is not a message of the type that this method takes")

    return read


def _readable(request: Any) -> Any:
    if isinstance(request, InvalidField):
        raise request
    return request


async def _each_readable(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _readable(request)


def _wrap_unary(
    behaviour: Callable[..., Awaitable[Any]], method: str, read: Callable[[Any], Any]
) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(behaviour)
    async def call(request: Any, context: Context) -> Any:
        with _Observed(method) as observed:
            try:
                response = await behaviour(read(request), context)
                context.set_trailing_metadata(server_facts())
                return response
            except Exception as error:
                await observed.fail(error, context)

    return call


def _wrap_stream(
    behaviour: Callable[..., AsyncIterator[Any]], method: str, read: Callable[[Any], Any]
) -> Callable[..., AsyncIterator[Any]]:
    @functools.wraps(behaviour)
    async def call(request: Any, context: Context) -> AsyncIterator[Any]:
        with _Observed(method) as observed:
            try:
                async for response in behaviour(read(request), context):
                    yield response
            except Exception as error:
                await observed.fail(error, context)

    return call


class _Observed:
    """One call, from its start until its status is known."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.code = grpc.StatusCode.OK

    def __enter__(self) -> "_Observed":
        self.started = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, asyncio.CancelledError | GeneratorExit):
            self.code = grpc.StatusCode.CANCELLED
        CALL_SECONDS.labels(self.method).observe(time.perf_counter() - self.started)
        CALLS.labels(self.method, self.code.name).inc()

    async def fail(self, error: Exception, context: Context) -> NoReturn:
        """End the call with the status of the error."""
        if isinstance(error, grpc.aio.AbortError):
            self.code = grpc.StatusCode.UNKNOWN
            raise error
        if isinstance(error, NotImplementedError):
            self.code = grpc.StatusCode.UNIMPLEMENTED
            await context.abort(self.code, f"this server has no {self.method}")
        if isinstance(error, EmbedscaleError):
            status = rpc_status.to_status(to_status(error))
        else:
            status = rpc_status.to_status(internal_status(logged_incident(error)))
        self.code = status.code
        await context.abort_with_status(status)
