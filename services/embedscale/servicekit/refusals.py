"""Calls that are refused before anything of their request is read."""

import asyncio
from typing import Any

import grpc
from grpc_status import rpc_status

from embedscale.core.errors import EmbedscaleError, Overloaded
from embedscale.servicekit.interceptors import Context, Continue
from embedscale.servicekit.status import reason_name, to_status
from embedscale.servicekit.telemetry import REFUSED_CALLS

_RETRY_SECONDS = 1.0


def refusal(error: EmbedscaleError) -> "grpc.RpcMethodHandler[Any, Any]":
    """Handle a call, of whatever form, by ending it with the status of the error."""
    REFUSED_CALLS.labels(reason_name(error)).inc()

    async def refuse(requests: Any, context: Context) -> None:
        ending = context.abort_with_status(rpc_status.to_status(to_status(error)))
        del requests, context  # or this frame and what abort raises would be a cycle
        await ending

    return grpc.stream_stream_rpc_method_handler(refuse)


class ConcurrencyLimit(grpc.aio.ServerInterceptor):
    """Refuses calls (RESOURCE_EXHAUSTED) while as many as may be are served. Health checks always get through."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._running = 0

    async def intercept_service(
        self, continuation: Continue, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """See `grpc.aio.ServerInterceptor`."""
        if not handler_call_details.method.startswith("/embedscale."):
            return await continuation(handler_call_details)
        if self._running >= self._most:
            return refusal(Overloaded(f"{self._most} calls are being served already", retry_after=_RETRY_SECONDS))
        call = asyncio.current_task()  # each call is a task, and its interceptors run in it
        if call:
            self._running += 1
            call.add_done_callback(self._ended)
        return await continuation(handler_call_details)

    def _ended(self, call: "asyncio.Task[Any]") -> None:  # noqa: ARG002
        self._running -= 1
