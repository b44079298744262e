"""The use case of the embedding service: validate, look up, compute what is missing, derive what was asked for."""

import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from embedscale.core.embedding import (
    EmbedCommand,
    Embedding,
    EmbedOutcome,
    EngineBatch,
    InputFacts,
    InputType,
    Matrix,
    ModelInfo,
    PreparedText,
    Truncation,
)
from embedscale.core.errors import InputTooLong, InvalidField, NonFiniteEmbedding
from embedscale.core.ports import Engine, VectorCache
from embedscale.embedding.admission import Admission, estimated_tokens, require_room
from embedscale.embedding.registry import ModelRegistry
from embedscale.embedding.vectors import cut, encode
from embedscale.servicekit.telemetry import TOKENS

_NOTHING = EngineBatch(embeddings=(), tokens_used=0, compute_seconds=0.0)


class EmbeddingService:
    """Answers requests for any hosted model through the cache."""

    def __init__(self, models: ModelRegistry, cache: VectorCache, admission: Admission, max_inputs: int) -> None:
        self.models = models
        self.max_inputs = max_inputs
        self._cache = cache
        self._admission = admission

    async def embed(self, command: EmbedCommand) -> EmbedOutcome:
        """Embed texts; row i of the outcome belongs to text i, whatever was cached or a duplicate."""
        engine = self.models.ready(command.model)
        self._check(command, engine.info)
        with self._admission.admit(len(command.texts), engine.load):
            started = time.perf_counter()
            texts = [engine.prepare(text, command.input_type) for text in command.texts]
            fingerprint = engine.fingerprint(command.truncation)
            cached = await self._cached(fingerprint, texts, command.truncation, engine.info.max_tokens)
            tokens = estimated_tokens(_missing(texts, cached), command.truncation, engine.info.max_tokens)
            require_room(engine.load, tokens, command.remaining_seconds)
            batch = await self._compute(engine, fingerprint, texts, cached, command.truncation)
        waited = time.perf_counter() - started - batch.compute_seconds
        TOKENS.labels(command.model).inc(batch.tokens_used)
        missing = _missing(texts, cached)
        entries = cached | dict(zip(missing, batch.embeddings, strict=True))
        vectors: Matrix = np.stack([entries[text].vector for text in texts])
        vectors = cut(vectors, command.dimensions, normalize=engine.info.normalized)
        return EmbedOutcome(
            rows=encode(vectors, command.encoding),
            dimensions=vectors.shape[1],
            encoding=command.encoding,
            facts=[InputFacts(entries[t].token_count, entries[t].truncated, t in cached) for t in texts],
            fingerprint=fingerprint,
            tokens_used=batch.tokens_used,
            queue_seconds=max(waited, 0.0),
            compute_seconds=batch.compute_seconds,
        )

    async def count_tokens(self, model: str, texts: Sequence[str], input_type: InputType) -> Sequence[int]:
        """Tokens of each text before truncation, prompt and special tokens included."""
        engine = self.models.ready(model)
        self._check(EmbedCommand(model, texts, input_type), engine.info)
        with self._admission.admit(len(texts), engine.load):
            return await engine.count_tokens([engine.prepare(text, input_type) for text in texts])

    async def _cached(
        self, fingerprint: str, texts: Sequence[PreparedText], truncation: Truncation, limit: int
    ) -> dict[PreparedText, Embedding]:
        unique = list(dict.fromkeys(texts))
        found = await self._cache.get(fingerprint, unique)
        hits = {text: entry for text, entry in zip(unique, found, strict=True) if entry is not None}
        for text, entry in hits.items():
            if entry.truncated and truncation is Truncation.ERROR:
                raise InputTooLong(texts.index(text), entry.token_count, limit)
        return hits

    async def _compute(
        self,
        engine: Engine,
        fingerprint: str,
        texts: Sequence[PreparedText],
        cached: Mapping[PreparedText, Embedding],
        truncation: Truncation,
    ) -> EngineBatch:
        missing = _missing(texts, cached)
        if not missing:
            return _NOTHING
        try:
            batch = await engine.embed(missing, truncation)
        except InputTooLong as error:
            raise error.at(texts.index(missing[error.position])) from None
        if not all(np.isfinite(entry.vector).all() for entry in batch.embeddings):
            raise NonFiniteEmbedding(f"model {engine.info.name!r} produced a vector that is not finite")
        await self._cache.put(fingerprint, dict(zip(missing, batch.embeddings, strict=True)))
        return batch

    def _check(self, command: EmbedCommand, model: ModelInfo) -> None:
        if not 1 <= len(command.texts) <= self.max_inputs:
            count = len(command.texts)
            raise InvalidField(f"inputs has {count} entries, and 1 to {self.max_inputs} are allowed", field="inputs")
        for index, text in enumerate(command.texts):
            if not text:
                raise InvalidField(f"inputs[{index}].text is empty", field=f"inputs[{index}].text")
        for field, fault in _option_faults(command, model):
            raise InvalidField(f"{field} {fault}", field=field)


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


def _missing(texts: Sequence[PreparedText], cached: Mapping[PreparedText, Embedding]) -> list[PreparedText]:
    return [text for text in dict.fromkeys(texts) if text not in cached]
