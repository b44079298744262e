"""What the gateway answers, written as OpenAI writes it."""

import base64
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import orjson
from numpy.typing import NDArray

from embedscale.client import EmbedResult
from embedscale.client.embedding import USABLE
from embedscale.openai_gateway.request import INPUT_TYPES, EmbeddingsRequest
from embedscale.v1 import embedding_service_pb2 as pb


def embeddings_json(request: EmbeddingsRequest, result: EmbedResult) -> bytes:
    """Body of an answer: row i has index i; numbers are float32, in decimal or as base64 of their bytes."""
    tokens = prompt_tokens(result)
    rows = _base64(result.vectors) if request.encoding_format == "base64" else result.vectors
    content = {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)],
        "model": request.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def prompt_tokens(result: EmbedResult) -> int:
    """Tokens of all inputs, cached ones included; where an upstream counts only whole batches, those it charged."""
    if all(facts.HasField("token_count") for facts in result.inputs):
        return sum(facts.token_count for facts in result.inputs)
    return result.tokens_used


def usable_names(models: Iterable[pb.Model]) -> Sequence[str]:
    """Names under which models can be asked for: with an input type where they need one.

    A model of several servers is named once.
    """
    return list(dict.fromkeys(name for model in models if model.state in USABLE for name in _names(model)))


def model_object(name: str) -> dict[str, object]:
    """One model, as OpenAI describes it; when it was made is not known, so `created` is 0."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "embedscale"}


def _names(model: pb.Model) -> Iterator[str]:
    if not model.requires_input_type:
        yield model.name
    else:
        yield from (f"{model.name}:{kind}" for kind in INPUT_TYPES)


def _base64(vectors: NDArray[np.float32]) -> Iterator[str]:
    return (base64.b64encode(row).decode("ascii") for row in np.ascontiguousarray(vectors, "<f4"))
