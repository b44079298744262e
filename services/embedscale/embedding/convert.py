"""Between the wire's messages and the domain's values."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from embedscale.core.embedding import EmbedCommand, EmbedOutcome, Encoding, InputType, ModelInfo, ModelState, Truncation
from embedscale.core.errors import InvalidField
from embedscale.servicekit.durations import to_duration
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1 import types_pb2 as wire

WireT = TypeVar("WireT", bound=int)
DomainT = TypeVar("DomainT")

INPUT_TYPES = {
    wire.INPUT_TYPE_UNSPECIFIED: InputType.UNSPECIFIED,
    wire.INPUT_TYPE_QUERY: InputType.QUERY,
    wire.INPUT_TYPE_DOCUMENT: InputType.DOCUMENT,
}
TRUNCATIONS = {
    wire.TRUNCATION_UNSPECIFIED: Truncation.ERROR,
    wire.TRUNCATION_ERROR: Truncation.ERROR,
    wire.TRUNCATION_END: Truncation.END,
    wire.TRUNCATION_WINDOWS: Truncation.WINDOWS,
}
ENCODINGS = {
    wire.ENCODING_UNSPECIFIED: Encoding.FLOAT32,
    wire.ENCODING_FLOAT32: Encoding.FLOAT32,
    wire.ENCODING_FLOAT16: Encoding.FLOAT16,
    wire.ENCODING_INT8: Encoding.INT8,
    wire.ENCODING_BINARY: Encoding.BINARY,
}
_MODEL_STATES = {
    ModelState.UNLOADED: pb.MODEL_STATE_UNLOADED,
    ModelState.LOADING: pb.MODEL_STATE_LOADING,
    ModelState.READY: pb.MODEL_STATE_READY,
    ModelState.FAILED: pb.MODEL_STATE_FAILED,
}
_WIRE_ENCODINGS = {domain: value for value, domain in ENCODINGS.items()}
_WIRE_TRUNCATIONS = {domain: value for value, domain in TRUNCATIONS.items()}


def to_command(request: pb.EmbedRequest, remaining_seconds: float | None) -> EmbedCommand:
    """Read a request that has so much time to its deadline.

    Raises InvalidField for an unknown enum value or an input without text.
    """
    return EmbedCommand(
        model=request.model,
        texts=to_texts(request.inputs),
        input_type=to_input_type(request.input_type),
        dimensions=request.dimensions,
        truncation=_known(TRUNCATIONS, request.truncation, "truncation"),
        encoding=_known(ENCODINGS, request.encoding, "encoding"),
        remaining_seconds=remaining_seconds,
    )


def to_texts(inputs: Sequence[pb.Input]) -> list[str]:
    """Read inputs; only text is supported."""
    for index, given in enumerate(inputs):
        if given.WhichOneof("content") != "text":
            raise InvalidField(f"inputs[{index}] has no text", field=f"inputs[{index}].text")
    return [given.text for given in inputs]


def to_input_type(value: wire.InputType) -> InputType:
    """Read an input type. Raises InvalidField for an unknown value."""
    return _known(INPUT_TYPES, value, "input_type")


def to_response(model: str, outcome: EmbedOutcome) -> pb.EmbedResponse:
    """Write the answer to a request."""
    return pb.EmbedResponse(
        embeddings=outcome.rows,
        dimensions=outcome.dimensions,
        encoding=_WIRE_ENCODINGS[outcome.encoding],
        inputs=[
            pb.InputFacts(token_count=facts.token_count, truncated=facts.truncated, cache_hit=facts.cache_hit)
            for facts in outcome.facts
        ],
        model=model,
        fingerprint=outcome.fingerprint,
        tokens_used=outcome.tokens_used,
        cost=outcome.cost,
        queue_duration=to_duration(outcome.queue_seconds),
        compute_duration=to_duration(outcome.compute_seconds),
    )


def to_model(info: ModelInfo, max_inputs: int) -> pb.Model:
    """Write a model's description."""
    return pb.Model(
        name=info.name,
        state=_MODEL_STATES[info.state],
        state_message=info.state_message,
        dimensions=info.dimensions,
        supported_dimensions=info.supported_dimensions,
        max_tokens=info.max_tokens,
        truncations=[_WIRE_TRUNCATIONS[mode] for mode in info.truncations],
        fingerprint=info.fingerprint,
        engine=info.engine,
        source=info.source,
        revision=info.revision,
        pooling=info.pooling,
        normalized=info.normalized,
        dtype=info.dtype,
        license=info.license,
        parameters=info.parameters,
        price_per_million_tokens=info.price_per_million_tokens,
        max_inputs=max_inputs,
        requires_input_type=info.requires_input_type,
        memory_bytes=info.memory_bytes,
        quantization=info.quantization,
        tokenizer=info.tokenizer,
    )


def _known(table: Mapping[WireT, DomainT], value: WireT, field: str) -> DomainT:
    if value not in table:
        raise InvalidField(f"{field} has the unknown value {int(value)}", field=field)
    return table[value]
