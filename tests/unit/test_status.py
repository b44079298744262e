"""The table of errors, its two ways over the wire, and its inverse in the client."""

import inspect
import re
from collections import Counter
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import code_pb2, status_pb2
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status

from embedscale.client.errors import BY_CODE, ClientError, Internal, from_rpc_error
from embedscale.core import errors
from embedscale.core.evaluation import Failure
from embedscale.servicekit.status import (
    TABLE,
    from_reason,
    internal_status,
    reason_of,
    to_status,
    to_wire,
    written_failure,
)
from embedscale.v1 import types_pb2 as wire

PROTO = Path(__file__).parents[2] / "protos/embedscale/v1/types.proto"
GROUPS = {errors.EmbedscaleError, errors.NotFound, errors.Retryable}
CONCRETE = {
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.EmbedscaleError) and kind not in GROUPS
}
OF_AN_INPUT = (errors.InputTooLong, errors.InputRejected)
# Said by servers themselves, not by an error of the domain.
REASONS_WITHOUT_ERROR = {"UNSPECIFIED", "INTERNAL"}


def example(kind: type[errors.EmbedscaleError], field: str = "") -> errors.EmbedscaleError:
    if kind is errors.InputTooLong:
        return errors.InputTooLong(3, 700, 512)
    if kind is errors.InputRejected:
        return errors.InputRejected(3, {})
    if issubclass(kind, errors.Retryable):
        return kind("It went wrong.", retry_after=2.5, field=field)
    return kind("It went wrong.", field=field)


def detail(status: status_pb2.Status, kind: type[Message]) -> Message | None:
    found = [packed for packed in status.details if packed.Is(kind.DESCRIPTOR)]
    assert len(found) <= 1
    message = kind()
    return message if found and found[0].Unpack(message) else None


def short(reason: int) -> str:
    return wire.ErrorReason.Name(reason).removeprefix("ERROR_REASON_")


def raised_by_client(status: status_pb2.Status) -> ClientError:
    sent = rpc_status.to_status(status)
    trailing = grpc.aio.Metadata(*sent.trailing_metadata)
    return from_rpc_error(grpc.aio.AioRpcError(sent.code, grpc.aio.Metadata(), trailing, sent.details), "host:1")


all_errors = pytest.mark.parametrize("kind", sorted(CONCRETE, key=lambda kind: kind.__name__))


def test_every_concrete_error_has_a_status_and_no_group_has() -> None:
    assert len(CONCRETE) > 15
    assert set(TABLE) == CONCRETE


def test_every_reason_of_the_wire_is_used_by_exactly_one_error() -> None:
    # TextTooLong is InputTooLong as another service told it.
    used = Counter(short(reason) for kind, (_, reason) in TABLE.items() if kind is not errors.TextTooLong)
    assert used == dict.fromkeys({short(reason) for reason in wire.ErrorReason.values()} - REASONS_WITHOUT_ERROR, 1)


def test_the_client_knows_every_status_code_of_the_table() -> None:
    # INTERNAL is what the client makes of any code that it does not know.
    assert {code for code, _ in TABLE.values()} - {grpc.StatusCode.INTERNAL} <= set(BY_CODE)


@all_errors
def test_the_client_raises_the_class_named_like_the_code(kind: type[errors.EmbedscaleError]) -> None:
    caught = raised_by_client(to_status(example(kind, "spec.model")))
    code, reason = TABLE[kind]
    assert type(caught).__name__ == code.name.title().replace("_", "")
    assert caught.message == str(caught) == example(kind).message
    assert caught.reason == short(reason)
    assert caught.field == ("inputs[3].text" if kind in OF_AN_INPUT else "spec.model")
    assert caught.retry_after == (2.5 if issubclass(kind, errors.Retryable) else None)


def test_the_codes_are_those_that_the_wire_documents() -> None:
    # The comment above each reason ends in the code, such as "... when to come back. RESOURCE_EXHAUSTED."
    found = re.findall(r"([A-Z_]+)\.\n  ERROR_REASON_(\w+) = ", PROTO.read_text("utf-8"))
    documented = {reason: code for code, reason in found if reason not in REASONS_WITHOUT_ERROR}
    assert {short(reason): code.name for code, reason in TABLE.values()} == documented


@all_errors
def test_a_status_carries_code_message_and_error_info(kind: type[errors.EmbedscaleError]) -> None:
    error = example(kind)
    status = to_status(error)
    code, reason = TABLE[kind]
    assert status.code == code_pb2.Code.Value(code.name)
    assert status.message == error.message
    assert detail(status, ErrorInfo) == ErrorInfo(reason=short(reason), domain="embedscale")


def test_a_message_of_any_length_reaches_the_client_in_headers() -> None:
    error = errors.ModelNotFound(f"no model {'🙂' * 5000} \udc80")
    status = to_status(error)
    assert len(status.SerializeToString()) < 2048
    assert status.message.startswith("no model 🙂")
    assert status.message.endswith("🙂...")
    assert to_status(errors.ModelNotFound("half \udc80")).message == "half ?"
    assert to_wire(errors.ModelNotFound("half \udc80")).message == "half ?"


@all_errors
def test_a_status_names_the_field_at_fault_where_there_is_one(kind: type[errors.EmbedscaleError]) -> None:
    error = example(kind, "spec.model")
    violation = BadRequest.FieldViolation(field=error.field, description=error.message)
    assert detail(to_status(error), BadRequest) == BadRequest(field_violations=[violation])
    if kind not in OF_AN_INPUT:
        assert detail(to_status(example(kind)), BadRequest) is None


@all_errors
def test_a_status_says_when_to_come_back_where_that_may_help(kind: type[errors.EmbedscaleError]) -> None:
    info = detail(to_status(example(kind)), RetryInfo)
    if not issubclass(kind, errors.Retryable):
        assert info is None
        return
    assert isinstance(info, RetryInfo)
    assert (info.retry_delay.seconds, info.retry_delay.nanos) == (2, 500_000_000)


@all_errors
def test_what_another_service_raised_is_raised_again(kind: type[errors.EmbedscaleError]) -> None:
    again = from_reason(short(TABLE[kind][1]), "It went wrong.", field="spec.model", retry_after=2.5)
    of_another = {errors.InputTooLong: errors.TextTooLong, errors.InputRejected: errors.UpstreamRejected}
    ours = (errors.TokenMissing, errors.TokenInvalid, errors.TokenExpired, errors.RoleMissing)
    of_another |= dict.fromkeys(ours, errors.UpstreamRefusedKey)
    assert type(again) is of_another.get(kind, kind)
    assert isinstance(again, errors.EmbedscaleError)
    assert (again.message, again.field) == ("It went wrong.", "spec.model")
    assert getattr(again, "retry_after", 2.5) == 2.5


@pytest.mark.parametrize("reason", ["", "INTERNAL", "UNSPECIFIED", "NEW_IN_VERSION_9"])
def test_any_other_reason_means_that_the_other_service_is_unavailable(reason: str) -> None:
    assert type(from_reason(reason, "It went wrong.")) is errors.UpstreamUnavailable


def test_a_retryable_error_without_a_pause_gets_one() -> None:
    again = from_reason("OVERLOADED", "Too much.")
    assert isinstance(again, errors.Overloaded)
    assert again.retry_after == 1.0


@all_errors
def test_a_message_carries_reason_message_and_field(kind: type[errors.EmbedscaleError]) -> None:
    error = example(kind, "dataset")
    assert to_wire(error) == wire.Error(reason=reason_of(error), message=error.message, field=error.field)


def test_an_unforeseen_failure_shows_nothing_but_its_incident() -> None:
    status = internal_status("abc123")
    info = ErrorInfo(reason="INTERNAL", domain="embedscale", metadata={"incident": "abc123"})
    assert next(iter(status.details)).Is(ErrorInfo.DESCRIPTOR)
    assert detail(status, ErrorInfo) == info
    caught = raised_by_client(status)
    assert type(caught) is Internal
    assert caught.reason == "INTERNAL"
    assert "abc123" in caught.message


def test_a_reason_that_only_newer_servers_know_becomes_internal() -> None:
    assert written_failure(Failure("NEWER", "text")) == wire.Error(reason=wire.ERROR_REASON_INTERNAL, message="text")
