"""The one table from domain errors to gRPC statuses."""

import logging
import secrets

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc import code_pb2, status_pb2
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo

from embedscale.core import errors
from embedscale.core.evaluation import Failure
from embedscale.servicekit.durations import to_duration
from embedscale.v1 import types_pb2 as wire

log = logging.getLogger(__name__)

DOMAIN = "embedscale"
_PREFIX = "ERROR_REASON_"
_MESSAGE_BYTES = 1200
"""It is there three times, with up to three bytes for each of its own."""
_INTERNAL = "internal error; the server's log has more under incident {}"

TABLE: dict[type[errors.EmbedscaleError], tuple[grpc.StatusCode, wire.ErrorReason]] = {
    errors.ModelNotFound: (grpc.StatusCode.NOT_FOUND, wire.ERROR_REASON_MODEL_NOT_FOUND),
    errors.EvaluationNotFound: (grpc.StatusCode.NOT_FOUND, wire.ERROR_REASON_EVALUATION_NOT_FOUND),
    errors.DatasetNotFound: (grpc.StatusCode.NOT_FOUND, wire.ERROR_REASON_DATASET_NOT_FOUND),
    errors.InvalidField: (grpc.StatusCode.INVALID_ARGUMENT, wire.ERROR_REASON_INVALID_FIELD),
    errors.InputTooLong: (grpc.StatusCode.INVALID_ARGUMENT, wire.ERROR_REASON_INPUT_TOO_LONG),
    errors.TextTooLong: (grpc.StatusCode.INVALID_ARGUMENT, wire.ERROR_REASON_INPUT_TOO_LONG),
    errors.DatasetInvalid: (grpc.StatusCode.INVALID_ARGUMENT, wire.ERROR_REASON_DATASET_INVALID),
    errors.DatasetForbidden: (grpc.StatusCode.PERMISSION_DENIED, wire.ERROR_REASON_DATASET_FORBIDDEN),
    errors.Overloaded: (grpc.StatusCode.RESOURCE_EXHAUSTED, wire.ERROR_REASON_OVERLOADED),
    errors.UpstreamRateLimited: (grpc.StatusCode.RESOURCE_EXHAUSTED, wire.ERROR_REASON_UPSTREAM_RATE_LIMITED),
    errors.SpendingLimitReached: (grpc.StatusCode.RESOURCE_EXHAUSTED, wire.ERROR_REASON_SPENDING_LIMIT),
    errors.UpstreamUnavailable: (grpc.StatusCode.UNAVAILABLE, wire.ERROR_REASON_UPSTREAM_UNAVAILABLE),
    errors.UpstreamRefusedKey: (grpc.StatusCode.FAILED_PRECONDITION, wire.ERROR_REASON_UPSTREAM_REFUSED_KEY),
    errors.UpstreamChanged: (grpc.StatusCode.FAILED_PRECONDITION, wire.ERROR_REASON_UPSTREAM_CHANGED),
    errors.UpstreamRejected: (grpc.StatusCode.INVALID_ARGUMENT, wire.ERROR_REASON_UPSTREAM_REJECTED),
    errors.InputRejected: (grpc.StatusCode.INVALID_ARGUMENT, wire.ERROR_REASON_INPUT_REJECTED),
    errors.ModelStarting: (grpc.StatusCode.UNAVAILABLE, wire.ERROR_REASON_STARTING),
    errors.ModelFailed: (grpc.StatusCode.FAILED_PRECONDITION, wire.ERROR_REASON_MODEL_FAILED),
    errors.DeadlineExceeded: (grpc.StatusCode.DEADLINE_EXCEEDED, wire.ERROR_REASON_DEADLINE),
    errors.NonFiniteEmbedding: (grpc.StatusCode.INTERNAL, wire.ERROR_REASON_NON_FINITE_EMBEDDING),
    errors.EvaluationNotFinished: (
        grpc.StatusCode.FAILED_PRECONDITION,
        wire.ERROR_REASON_EVALUATION_NOT_FINISHED,
    ),
    errors.EvaluationAbandoned: (grpc.StatusCode.FAILED_PRECONDITION, wire.ERROR_REASON_EVALUATION_ABANDONED),
    errors.GenerationLimitReached: (grpc.StatusCode.FAILED_PRECONDITION, wire.ERROR_REASON_GENERATION_LIMIT),
    errors.StoreUnavailable: (grpc.StatusCode.UNAVAILABLE, wire.ERROR_REASON_STORE_UNAVAILABLE),
    errors.Draining: (grpc.StatusCode.UNAVAILABLE, wire.ERROR_REASON_DRAINING),
    errors.TokenMissing: (grpc.StatusCode.UNAUTHENTICATED, wire.ERROR_REASON_TOKEN_MISSING),
    errors.TokenInvalid: (grpc.StatusCode.UNAUTHENTICATED, wire.ERROR_REASON_TOKEN_INVALID),
    errors.TokenExpired: (grpc.StatusCode.UNAUTHENTICATED, wire.ERROR_REASON_TOKEN_EXPIRED),
    errors.RoleMissing: (grpc.StatusCode.PERMISSION_DENIED, wire.ERROR_REASON_ROLE_MISSING),
    errors.NotComparable: (grpc.StatusCode.FAILED_PRECONDITION, wire.ERROR_REASON_NOT_COMPARABLE),
}

_BY_REASON: dict[str, type[errors.EmbedscaleError]] = {
    wire.ErrorReason.Name(reason).removeprefix(_PREFIX): kind for kind, (_, reason) in TABLE.items()
} | {"INPUT_TOO_LONG": errors.TextTooLong, "INPUT_REJECTED": errors.UpstreamRejected}
# Another service refuses this server's token: no caller of ours can mend that with a token of its own.
_BY_REASON |= dict.fromkeys(
    ("TOKEN_MISSING", "TOKEN_INVALID", "TOKEN_EXPIRED", "ROLE_MISSING"), errors.UpstreamRefusedKey
)


def reason_of(error: errors.EmbedscaleError) -> wire.ErrorReason:
    """Reason on the wire of an error of the tree."""
    return TABLE[type(error)][1]


def reason_name(error: errors.EmbedscaleError) -> str:
    """The `reason` of ErrorInfo for an error of the tree."""
    return wire.ErrorReason.Name(reason_of(error)).removeprefix(_PREFIX)


def from_reason(reason: str, message: str, *, field: str = "", retry_after: float | None = None) -> Exception:
    """The error to raise for what another service said: the one it had, or UpstreamUnavailable for anything unknown."""
    kind = _BY_REASON.get(reason, errors.UpstreamUnavailable)
    if issubclass(kind, errors.Retryable):
        return kind(message, retry_after=retry_after or 1.0, field=field)
    return kind(message, field=field)


def failure_of(error: Exception) -> Failure:
    """What is kept of an error; of one outside the tree nothing but an incident id, which the log also has."""
    if isinstance(error, errors.EmbedscaleError):
        return Failure(reason_name(error), error.message, error.field)
    return Failure("INTERNAL", _INTERNAL.format(logged_incident(error)))


def written_failure(failure: Failure) -> wire.Error:
    """Carry a failure inside a message; a reason that only newer servers know becomes INTERNAL."""
    name = _PREFIX + failure.reason
    known = name if name in wire.ErrorReason.keys() else "ERROR_REASON_INTERNAL"  # noqa: SIM118 - not a mapping
    return wire.Error(reason=known, message=failure.message.encode("utf-8", "replace").decode(), field=failure.field)


def to_wire(error: Exception) -> wire.Error:
    """Carry an error inside a message."""
    return written_failure(failure_of(error))


def logged_incident(error: Exception) -> str:
    """Log an unforeseen error under a new opaque id."""
    incident = secrets.token_hex(6)
    log.error("incident %s", incident, exc_info=error)
    return incident


def to_status(error: errors.EmbedscaleError) -> status_pb2.Status:
    """Carry an error as the status of a call, with ErrorInfo and, where they apply, BadRequest and RetryInfo."""
    code, _ = TABLE[type(error)]
    message = _fitting(error.message)
    info = ErrorInfo(reason=reason_name(error), domain=DOMAIN)
    details: list[Message] = [info]
    if error.field:
        violation = BadRequest.FieldViolation(field=error.field, description=message)
        details.append(BadRequest(field_violations=[violation]))
    if isinstance(error, errors.Retryable):
        details.append(RetryInfo(retry_delay=to_duration(error.retry_after)))
    return _status(code, message, details)


def internal_status(incident: str) -> status_pb2.Status:
    """Answer to something unforeseen: nothing but an opaque id that the log also has."""
    info = ErrorInfo(reason="INTERNAL", domain=DOMAIN, metadata={"incident": incident})
    return _status(grpc.StatusCode.INTERNAL, _INTERNAL.format(incident), [info])


def _fitting(message: str) -> str:
    """Cut a message, which may repeat a name of any length: a status travels in headers, of which gRPC takes 8 KiB."""
    text = message.encode("utf-8", "replace")
    return text.decode() if len(text) <= _MESSAGE_BYTES else f"{text[:_MESSAGE_BYTES].decode('utf-8', 'ignore')}..."


def _status(code: grpc.StatusCode, message: str, details: list[Message]) -> status_pb2.Status:
    packed = []
    for detail in details:
        packed.append(Any())
        packed[-1].Pack(detail)
    return status_pb2.Status(code=getattr(code_pb2, code.name), message=message, details=packed)
