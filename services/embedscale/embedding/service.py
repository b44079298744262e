"""The use case of the embedding service: validate, find or compute the vectors, derive what was asked for."""

import time
from collections.abc import Iterator, Sequence

import numpy as np

from embedscale.core.embedding import (
    EmbedCommand,
    EmbedOutcome,
    InputFacts,
    InputType,
    Matrix,
    ModelInfo,
)
from embedscale.core.errors import InvalidField
from embedscale.core.vectors import cut, encode
from embedscale.embedding import stages
from embedscale.embedding.admission import Admission
from embedscale.embedding.read_through import ReadThrough
from embedscale.embedding.registry import ModelRegistry
from embedscale.embedding.telemetry import INPUTS
from embedscale.tracing.spans import annotate

_TOKENS_PER_PRICE = 1e6


class EmbeddingService:
    """Answers requests for any hosted model through the cache."""

    def __init__(
        self, models: ModelRegistry, vectors: ReadThrough, admission: Admission, max_inputs: int, max_characters: int
    ) -> None:
        self.models = models
        self.max_inputs = max_inputs
        self._max_characters = max_characters
        self._vectors = vectors
        self._admission = admission

    async def embed(self, command: EmbedCommand) -> EmbedOutcome:
        """Embed texts; row i of the outcome belongs to text i, whatever was cached or a duplicate."""
        engine = await self.models.ready(command.model)
        self._check(command, engine.info)
        with self._admission.admit(len(command.texts), engine.load):
            started = time.perf_counter()
            texts = [engine.prepare(text, command.input_type) for text in command.texts]
            annotate({stages.MODEL: engine.info.name, stages.INPUTS: len(texts)})
            found = await self._vectors.embed(engine, texts, command.truncation, command.remaining_seconds)
        INPUTS.labels(engine.info.name).inc(len(texts))
        annotate({stages.TOKENS: found.tokens_used, stages.CACHE_HITS: sum(found.hits)})
        waited = time.perf_counter() - started - found.compute_seconds
        vectors: Matrix = np.array([entry.vector for entry in found.embeddings])
        vectors = cut(vectors, command.dimensions, normalize=engine.info.normalized)
        return EmbedOutcome(
            rows=encode(vectors, command.encoding),
            dimensions=vectors.shape[1],
            encoding=command.encoding,
            facts=[
                InputFacts(entry.token_count, entry.truncated, hit)
                for entry, hit in zip(found.embeddings, found.hits, strict=True)
            ],
            fingerprint=engine.fingerprint(command.truncation),
            tokens_used=found.tokens_used,
            cost=found.tokens_used * engine.info.price_per_million_tokens / _TOKENS_PER_PRICE,
            queue_seconds=max(waited, 0.0),
            compute_seconds=found.compute_seconds,
        )

    async def count_tokens(self, model: str, texts: Sequence[str], input_type: InputType) -> Sequence[int]:
        """Tokens of each text before truncation, prompt and special tokens included."""
        engine = await self.models.ready(model)
        self._check(EmbedCommand(model, texts, input_type), engine.info)
        with self._admission.admit(len(texts), engine.load):
            return await engine.count_tokens([engine.prepare(text, input_type) for text in texts])

    def _check(self, command: EmbedCommand, model: ModelInfo) -> None:
        if not 1 <= len(command.texts) <= self.max_inputs:
            count = len(command.texts)
            raise InvalidField(f"inputs has {count} entries, and 1 to {self.max_inputs} are allowed", field="inputs")
        for index, text in enumerate(command.texts):
            if fault := self._text_fault(text):
                raise InvalidField(f"inputs[{index}].text {fault}", field=f"inputs[{index}].text")
        for field, fault in _option_faults(command, model):
            raise InvalidField(f"{field} {fault}", field=field)

    def _text_fault(self, text: str) -> str:
        if not text:
            return "is empty"
        if len(text) > self._max_characters:
            return f"has {len(text)} characters, and {self._max_characters} are allowed"
        return ""


def _option_faults(command: EmbedCommand, model: ModelInfo) -> Iterator[tuple[str, str]]:
    if command.input_type is InputType.UNSPECIFIED and model.requires_input_type:
        yield "input_type", f"is not set, and {model.name!r} treats queries and documents differently"
    if command.dimensions and command.dimensions not in model.supported_dimensions:
        yield "dimensions", f"is {command.dimensions}; {model.name!r} has {_listed(model.supported_dimensions)}"
    if command.truncation not in model.truncations:
        modes = _listed([mode.name for mode in model.truncations])
        yield "truncation", f"is {command.truncation.name}; {model.name!r} has {modes}"


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))
