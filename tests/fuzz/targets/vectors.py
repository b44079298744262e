"""Answers as the client reads them: a matrix of as many rows as texts were sent, or one of the client's errors.

The first byte is how many texts were sent; bytes that begin with STATUS are the status of a call that failed.
"""

from random import Random

import grpc
import numpy as np
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status

from embedscale.client.errors import ClientError, from_rpc_error
from embedscale.client.results import from_response
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1 import types_pb2 as wire
from tests.fuzz.mutating import mutated_message

_STATUS = b"STATUS"
_DETAILS = "grpc-status-details-bin"


def check(data: bytes) -> None:
    if data.startswith(_STATUS):
        _check_error(data.removeprefix(_STATUS))
    elif data:
        _check_answer(data[0] % 8, data[1:])


def mutate(data: bytes, pick: Random) -> bytes | None:
    if data.startswith(_STATUS):
        changed = mutated_message(data.removeprefix(_STATUS), Status, pick)
        return None if changed is None else _STATUS + changed
    changed = mutated_message(data[1:], pb.EmbedResponse, pick)
    return None if changed is None else data[:1] + changed


def _check_answer(count: int, data: bytes) -> None:
    try:
        response = pb.EmbedResponse.FromString(data)
    except DecodeError:
        return
    try:
        result = from_response(response, count, wire.ENCODING_FLOAT32)
    except ClientError as error:
        assert error.message
        return
    assert result.vectors.shape == (count, response.dimensions)
    assert result.vectors.dtype == np.float32
    assert result.vectors.tobytes() == response.embeddings
    assert response.encoding in (wire.ENCODING_UNSPECIFIED, wire.ENCODING_FLOAT32)
    assert len(result.token_counts) == len(result.truncated_rows) == len(result.cached_rows) == count


def _check_error(data: bytes) -> None:
    try:
        told = Status.FromString(data).message  # a status that does not repeat it is passed over
    except DecodeError:
        told = "details"
    trailing = grpc.aio.Metadata((_DETAILS, data))
    for code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAVAILABLE):
        error = from_rpc_error(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, told), "host:1")
        assert error.message
        assert error.retry_after is None or error.retry_after >= 0
