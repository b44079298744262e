"""What a failed call raises: the inverse of the servers' table of statuses.

ClientError
├── InvalidArgument      a field is wrong: `field` names it
├── NotFound             no such model, evaluation or data set
├── FailedPrecondition   the server cannot do it as it is set up
├── PermissionDenied, Unauthenticated
├── ResourceExhausted    overload or rate limit: `retry_after` says when to come back
├── Unavailable          not reachable, starting, draining, or stopped while it had the call
├── DeadlineExceeded
└── Internal             the message has an incident id that the server's log also has
"""

import re
from contextlib import suppress
from typing import Any, Self

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status

from embedscale.client.causes import unreachable

_POSITION = re.compile(r"\binputs\[(\d+)\]")


class ClientError(Exception):
    """A call failed. `reason` is a name of the wire's ErrorReason, or empty if the call never reached a server."""

    def __init__(self, message: str, *, reason: str = "", field: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.field = field
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.message, self.reason, self.field, self.retry_after)

    def moved(self, positions: int) -> Self:
        """Return the same error for the batch that its request was cut from, `positions` inputs further on."""
        message, field = (
            _POSITION.sub(lambda match: f"inputs[{int(match[1]) + positions}]", text)
            for text in (self.message, self.field)
        )
        return type(self)(message, reason=self.reason, field=field, retry_after=self.retry_after)


class InvalidArgument(ClientError):
    """A field of the request has a value that is not allowed; `field` names it."""


class NotFound(ClientError):
    """What the request names does not exist."""


class FailedPrecondition(ClientError):
    """The server cannot do this as it is set up."""


class PermissionDenied(ClientError):
    """The caller may not do this."""


class Unauthenticated(ClientError):
    """The caller's token is missing or wrong."""


class ResourceExhausted(ClientError):
    """Too much work or too many calls; `retry_after` is the advised pause in seconds."""


class Unavailable(ClientError):
    """No server could take the call."""


class DeadlineExceeded(ClientError):
    """The time for the call ran out."""


class Internal(ClientError):
    """The server failed in an unforeseen way."""


BY_CODE: dict[grpc.StatusCode, type[ClientError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.OUT_OF_RANGE: InvalidArgument,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.UNIMPLEMENTED: FailedPrecondition,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Unavailable,  # gRPC's servers end so what reaches them while they stop
}


def _restored(kind: type[ClientError], message: str, reason: str, field: str, retry_after: float | None) -> ClientError:
    """Make an error again that was pickled, as pools of processes do."""
    return kind(message, reason=reason, field=field, retry_after=retry_after)


def from_rpc_error(error: grpc.aio.AioRpcError, address: str) -> ClientError:
    """Turn what grpc raised into an error of the tree."""
    kind = BY_CODE.get(error.code(), Internal)
    reason, field, retry_after = "", "", None
    for detail in _details(error):
        if isinstance(detail, ErrorInfo):
            reason = detail.reason
        elif isinstance(detail, BadRequest) and detail.field_violations:
            field = detail.field_violations[0].field
        elif isinstance(detail, RetryInfo):
            retry_after = max(detail.retry_delay.seconds + detail.retry_delay.nanos / 1e9, 0.0)
    message = error.details() or error.code().name
    if kind is Unavailable and not reason:
        message = unreachable(address, error.details() or "")
    if kind is DeadlineExceeded and not reason:
        message = f"no answer in time from {address}"
    return kind(message, reason=reason, field=field, retry_after=retry_after)


def _details(error: grpc.aio.AioRpcError) -> list[ErrorInfo | BadRequest | RetryInfo]:
    """Read what a server, or whatever stands before it, said beside the code; nothing where it cannot be read."""
    unpacked: list[ErrorInfo | BadRequest | RetryInfo] = []
    with suppress(ValueError, DecodeError):
        status = rpc_status.from_call(error)
        for packed in status.details if status else ():
            for kind in (ErrorInfo, BadRequest, RetryInfo):
                message = kind()
                if packed.Unpack(message):
                    unpacked.append(message)
    return unpacked
