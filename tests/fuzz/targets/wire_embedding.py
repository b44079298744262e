"""Raw bytes to EmbeddingService and CacheService through a real channel: rows as many as inputs, or a status.

The first byte chooses the method.
"""

from random import Random
from typing import Any

import grpc

from embedscale.embedding.bootstrap import build_application
from embedscale.embedding.convert import to_input_type
from embedscale.embedding.settings import EmbeddingServerSettings
from embedscale.v1 import cache_service_pb2
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1 import types_pb2 as wire
from tests.fakes.hash_engine import DIMENSIONS, HASH, HashEngine
from tests.fuzz.mutating import mutated_message
from tests.fuzz.serving import Caller, served

_ENGINE = HashEngine()
_SETTINGS = EmbeddingServerSettings(max_inputs=8, max_text_characters=300, drain_seconds=0)
_CALLER = Caller(
    served(lambda: build_application([_ENGINE], _SETTINGS), _SETTINGS), pb.DESCRIPTOR, cache_service_pb2.DESCRIPTOR
)
_BITS = {wire.ENCODING_FLOAT16: 16, wire.ENCODING_INT8: 8, wire.ENCODING_BINARY: 1}
_CODES = (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)


def check(data: bytes) -> None:
    if not data:
        return
    _ENGINE.batches.clear()
    answer = _CALLER.call(data[0], data[1:])
    assert answer.code in _CODES
    for response in answer.responses:
        if answer.method == "Embed":
            _check_rows(answer.request, response)
        elif answer.method == "CountTokens":
            assert len(response.token_counts) == len(answer.request.inputs)
        elif answer.method == "EmbedStream":
            assert response.batch_id == answer.request.batch_id
            if response.HasField("error"):
                assert response.error.reason in (wire.ERROR_REASON_MODEL_NOT_FOUND, wire.ERROR_REASON_INVALID_FIELD)
            else:
                _check_rows(answer.request.request, response.response)


def mutate(data: bytes, pick: Random) -> bytes | None:
    method = data[:1] if pick.random() < 0.9 else pick.randbytes(1)
    changed = mutated_message(data[1:], _CALLER.kind(method[0]), pick) if method else None
    return None if changed is None else method + changed


def _check_rows(request: Any, response: Any) -> None:
    assert request.model == HASH
    assert 1 <= len(request.inputs) <= _SETTINGS.max_inputs
    assert response.dimensions == DIMENSIONS
    assert len(response.embeddings) == len(request.inputs) * DIMENSIONS * _BITS.get(request.encoding, 32) // 8
    prompted = [_ENGINE.prepare(given.text, to_input_type(request.input_type)).prompted for given in request.inputs]
    assert [facts.token_count for facts in response.inputs] == [len(text.split(" ")) for text in prompted]
