"""What happens around every call: errors become statuses, calls are counted, traced and told in the log."""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from embedscale.core.errors import EmbedscaleError, InvalidField
from embedscale.servicekit.access import AccessLog
from embedscale.servicekit.server_facts import server_facts
from embedscale.servicekit.status import internal_status, logged_incident, to_status
from embedscale.tracing.spans import HEADERS, Headers, Span

Context = grpc.aio.ServicerContext[Any, Any]
Observing = Callable[[Context], "_Observed"]
_EXPECTED = (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED)
"""Ends of calls that come by thousands when all is as it should be: the last is how overload is refused."""
Continue = Callable[[grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any] | None"]]


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps unary and streaming handlers alike, each once."""

    def __init__(self, slow_call_seconds: float) -> None:
        self._access = AccessLog(slow_call_seconds)
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
        self._wrapped[method] = _wrapped(handler, method, self._access)
        return self._wrapped[method]


def _wrapped(
    handler: "grpc.RpcMethodHandler[Any, Any]", method: str, access: AccessLog
) -> "grpc.RpcMethodHandler[Any, Any]":
    streams_in, streams_out = handler.request_streaming, handler.response_streaming
    name = "_".join(("stream" if streams_in else "unary", "stream" if streams_out else "unary"))
    wrap = _wrap_stream if streams_out else _wrap_unary
    read = _each_readable if streams_in else _readable
    observed = functools.partial(_Observed, method, access, lasting=streams_out)
    make = getattr(grpc, f"{name}_rpc_method_handler")
    wrapped: grpc.RpcMethodHandler[Any, Any] = make(
        wrap(getattr(handler, name), observed, read), _kept(handler.request_deserializer), handler.response_serializer
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
    behaviour: Callable[..., Awaitable[Any]], observing: Observing, read: Callable[[Any], Any]
) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(behaviour)
    async def call(request: Any, context: Context) -> Any:
        with observing(context) as observed:
            try:
                response = await behaviour(read(request), context)
                context.set_trailing_metadata(server_facts())
                return response
            except Exception as error:
                ending = observed.fail(error, context)
                del request, context
                await ending

    return call


def _wrap_stream(
    behaviour: Callable[..., AsyncIterator[Any]],
    observing: Observing,
    read: Callable[[Any], Any],
) -> Callable[..., AsyncIterator[Any]]:
    @functools.wraps(behaviour)
    async def call(request: Any, context: Context) -> AsyncIterator[Any]:
        with observing(context) as observed:
            try:
                async for response in behaviour(read(request), context):
                    yield response
            except Exception as error:
                ending = observed.fail(error, context)
                del request, context
                await ending

    return call


class _Observed:
    """One call, from its start until its status is known."""

    def __init__(self, method: str, access: AccessLog, context: Context, *, lasting: bool) -> None:
        self.method = method
        self.access = access
        self.lasting = lasting
        self.code = grpc.StatusCode.OK
        self.span = _server_span(method, context)

    def __enter__(self) -> "_Observed":
        self.started = time.perf_counter()
        self.access.began(self.method)
        # Not for the block alone: what is left of a stream may be closed by another task. grpc has a task a call.
        self.span.make_current()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, asyncio.CancelledError | GeneratorExit):
            self.code = grpc.StatusCode.CANCELLED
        seconds, failed = time.perf_counter() - self.started, self.code not in _EXPECTED
        self.access.ended(self.method, self.code.name, seconds, failed=failed, lasting=self.lasting)
        self.span.set({"rpc.grpc.status_code": self.code.value[0]})
        if failed:
            self.span.fail(self.code.name)
        self.span.end()

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
        # What abort raises is kept by the context. Frames that know both would be a cycle, kept until it is collected.
        error.__traceback__ = None
        try:
            await context.abort_with_status(status)
        finally:
            del context, error


def _server_span(method: str, context: Context) -> Span:
    service, name = method.removeprefix("/").split("/")
    attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
    return Span(f"{service}/{name}", attributes, kind="SERVER", parent=_trace_of(context))


def _trace_of(context: Context) -> Headers:
    return {key: str(value) for key, value in context.invocation_metadata() or () if key in HEADERS}
