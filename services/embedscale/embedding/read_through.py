"""Vectors from the cache where it has them, from the engine where it does not, each computed once."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from embedscale.core.embedding import Embedding, EngineBatch, PreparedText, Truncation, VectorSpace
from embedscale.core.errors import (
    DeadlineExceeded,
    InputRejected,
    InputTooLong,
    InvalidField,
    NonFiniteEmbedding,
    Retryable,
    UpstreamRejected,
)
from embedscale.core.ports import ComputeLeases, Engine, VectorCache
from embedscale.embedding.admission import estimated_tokens, require_room
from embedscale.embedding.single_flight import SingleFlight
from embedscale.embedding.stages import stage
from embedscale.embedding.telemetry import COALESCED_TEXTS, TOKENS

Key = tuple[str, Truncation, PreparedText]


class _TextRefused(Exception):
    """A text of a batch is too long or was refused, whoever asked for it."""

    def __init__(self, text: PreparedText, error: InputTooLong | InputRejected) -> None:
        self.text, self.error = text, error


@dataclass(frozen=True, slots=True)
class Found:
    """Embedding i of text i, whether it was in the cache, and what computing the others cost this caller."""

    embeddings: Sequence[Embedding]
    hits: Sequence[bool]
    tokens_used: int = 0
    compute_seconds: float = 0.0


@dataclass
class _Caller:
    """When a caller's time is over, and what computing for it cost."""

    deadline: float | None
    tokens_used: int = 0
    compute_seconds: float = 0.0


class ReadThrough:
    """Looks up, computes what is missing, and keeps what was computed."""

    def __init__(self, cache: VectorCache, leases: ComputeLeases) -> None:
        self._cache = cache
        self._leases = leases
        self._flights: SingleFlight[Key, Embedding] = SingleFlight(
            (_TextRefused, InvalidField, UpstreamRejected, NonFiniteEmbedding, DeadlineExceeded, Retryable)
        )

    async def embed(
        self,
        engine: Engine,
        texts: Sequence[PreparedText],
        truncation: Truncation,
        remaining_seconds: float | None = None,
    ) -> Found:
        """Vectors of texts, duplicates allowed, for a caller with so much time to its deadline.

        Raises InputTooLong and InputRejected with the position in `texts`, Overloaded, NonFiniteEmbedding, and what
        engines raise.
        """
        unique = list(dict.fromkeys(texts))
        try:
            found = await self._embed(engine, unique, truncation, remaining_seconds)
        except _TextRefused as fault:
            raise fault.error.at(texts.index(fault.text)) from None
        return found if len(unique) == len(texts) else _repeated(found, unique, texts)

    async def _embed(
        self, engine: Engine, texts: Sequence[PreparedText], truncation: Truncation, remaining_seconds: float | None
    ) -> Found:
        space = VectorSpace(engine.fingerprint(truncation), engine.info.dimensions, engine.info.normalized)
        with stage(engine.info.name, "cache"):
            found = await self._cache.get(space, texts)
        entries = [entry for entry in found if entry is not None]
        if any(entry.truncated for entry in entries):
            _refuse_truncated(_present(texts, found), truncation, engine.info.max_tokens)
        if len(entries) == len(texts):
            return Found(entries, [True] * len(entries))
        deadline = None if remaining_seconds is None else time.monotonic() + remaining_seconds
        caller = _Caller(deadline)
        missing = [text for text, entry in zip(texts, found, strict=True) if entry is None]
        tokens = estimated_tokens(missing, truncation, engine.info.max_tokens)
        require_room(engine.load, tokens, remaining_seconds)
        computed = await self._flown(engine, space, missing, truncation, caller)
        embeddings = [computed[text] if entry is None else entry for text, entry in zip(texts, found, strict=True)]
        return Found(embeddings, [entry is not None for entry in found], caller.tokens_used, caller.compute_seconds)

    async def _flown(
        self, engine: Engine, space: VectorSpace, texts: Sequence[PreparedText], truncation: Truncation, caller: _Caller
    ) -> Mapping[PreparedText, Embedding]:
        keys = [(space.fingerprint, truncation, text) for text in texts]
        computed, shared = await self._flights.run(keys, self._work(engine, space, truncation, caller))
        if shared:
            COALESCED_TEXTS.labels("process").inc(shared)
        return {key[2]: entry for key, entry in computed.items()}

    def _work(
        self, engine: Engine, space: VectorSpace, truncation: Truncation, caller: _Caller
    ) -> Callable[[Sequence[Key]], Awaitable[Mapping[Key, Embedding]]]:
        async def work(keys: Sequence[Key]) -> Mapping[Key, Embedding]:
            texts = [key[2] for key in keys]
            entries = await self._leased(engine, space, texts, truncation, caller)
            return {key: entries[key[2]] for key in keys}

        return work

    async def _leased(
        self, engine: Engine, space: VectorSpace, texts: Sequence[PreparedText], truncation: Truncation, caller: _Caller
    ) -> Mapping[PreparedText, Embedding]:
        """Compute the texts that no other replica computes; then take the others', or compute what did not come."""
        free = await self._leases.claim(space, texts)
        ours = [text for text, mine in zip(texts, free, strict=True) if mine]
        theirs = [text for text, mine in zip(texts, free, strict=True) if not mine]
        entries = await self._computed(engine, space, ours, truncation, caller)
        if theirs:
            awaited = await self._leases.awaited(space, theirs)
            _refuse_truncated(awaited, truncation, engine.info.max_tokens)
            left = [text for text in theirs if text not in awaited]
            entries = {**entries, **awaited, **await self._computed(engine, space, left, truncation, caller)}
        return entries

    async def _computed(
        self, engine: Engine, space: VectorSpace, texts: Sequence[PreparedText], truncation: Truncation, caller: _Caller
    ) -> Mapping[PreparedText, Embedding]:
        if not texts:
            return {}
        try:
            batch = await engine.embed(texts, truncation, caller.deadline)
            _refuse_non_finite(engine, batch)
        except InputTooLong as error:
            self._leases.release(space, texts)
            raise _TextRefused(texts[error.position], error) from None
        except InputRejected as error:
            self._cache.put(space, {texts[row]: entry for row, entry in error.computed.items()})
            self._leases.release(space, [text for row, text in enumerate(texts) if row not in error.computed])
            TOKENS.labels(engine.info.name).inc(error.tokens_used)
            raise _TextRefused(texts[error.position], error) from None
        except BaseException:
            self._leases.release(space, texts)
            raise
        TOKENS.labels(engine.info.name).inc(batch.tokens_used)
        caller.tokens_used += batch.tokens_used
        caller.compute_seconds += batch.compute_seconds
        entries = dict(zip(texts, batch.embeddings, strict=True))
        self._cache.put(space, entries)
        return entries


def _refuse_truncated(entries: Mapping[PreparedText, Embedding], truncation: Truncation, limit: int) -> None:
    if truncation is Truncation.ERROR:
        for text, entry in entries.items():
            if entry.truncated:
                raise _TextRefused(text, InputTooLong(0, entry.token_count, limit))


def _refuse_non_finite(engine: Engine, batch: EngineBatch) -> None:
    if not all(np.isfinite(entry.vector).all() for entry in batch.embeddings):
        raise NonFiniteEmbedding(f"model {engine.info.name!r} produced a vector that is not finite")


def _present(texts: Sequence[PreparedText], found: Sequence[Embedding | None]) -> Mapping[PreparedText, Embedding]:
    return {text: entry for text, entry in zip(texts, found, strict=True) if entry is not None}


def _repeated(found: Found, unique: Sequence[PreparedText], texts: Sequence[PreparedText]) -> Found:
    """What was found for distinct texts, for each of the texts."""
    row = {text: number for number, text in enumerate(unique)}
    rows = [row[text] for text in texts]
    embeddings, hits = [found.embeddings[one] for one in rows], [found.hits[one] for one in rows]
    return Found(embeddings, hits, found.tokens_used, found.compute_seconds)
