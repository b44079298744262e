"""The engine port over an `Upstream`."""

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from embedscale.core.embedding import (
    Embedding,
    EngineBatch,
    InputType,
    ModelInfo,
    ModelState,
    PreparedText,
    Truncation,
)
from embedscale.core.errors import EmbedscaleError, InvalidField, UpstreamRateLimited, UpstreamUnavailable
from embedscale.core.fingerprint import fingerprint
from embedscale.embedding.catalog import PerInputType, RemoteModel
from embedscale.openai_proxy.upstream import Upstream, UpstreamAnswer

log = logging.getLogger(__name__)

_RECONNECT_SECONDS = 1.0
_TEXTS_PER_CALL = 64
_CHARACTERS_PER_CALL = 32_000


class UpstreamEngine:
    """One remote model."""

    def __init__(self, name: str, model: RemoteModel, upstream: Upstream, *, concurrent_calls: int) -> None:
        self._model = model
        self._upstream = upstream
        self._calls = asyncio.Semaphore(concurrent_calls)
        self._space = fingerprint({"engine": "openai", **model.model_dump(mode="json", include=set(_SPACE_FIELDS))})
        self._info = _described(name, model)

    @property
    def info(self) -> ModelInfo:
        """See `Engine`."""
        return self._info

    @property
    def load(self) -> None:
        """See `Engine`; the upstream's queue is not ours to see."""

    async def start(self) -> None:
        """See `Engine`. Tries until the upstream answers; an answer that no retry can mend is kept in `info`."""
        probe = self.prepare("ready", InputType.QUERY)
        while self._info.state is ModelState.LOADING:
            try:
                await self._call([probe])
            except (UpstreamUnavailable, UpstreamRateLimited) as error:
                log.warning("model %s waits: %s", self._info.name, error)
                self._info = replace(self._info, state_message=error.message)
                await asyncio.sleep(_RECONNECT_SECONDS)
            except Exception as error:
                log.exception("model %s cannot be used", self._info.name)
                reason = error.message if isinstance(error, EmbedscaleError) else type(error).__name__
                self._info = replace(self._info, state=ModelState.FAILED, state_message=reason)
            else:
                self._info = replace(
                    self._info,
                    state=ModelState.READY,
                    state_message="",
                    dimensions=self._model.dimensions,
                    supported_dimensions=(*self._model.matryoshka, self._model.dimensions),
                    fingerprint=self._space,
                )

    async def wake(self) -> None:
        """See `Engine`; nobody knows when an upstream comes back, so nobody waits for it."""

    async def close(self) -> None:
        """See `Engine`."""
        await self._upstream.close()

    def fingerprint(self, truncation: Truncation) -> str:  # noqa: ARG002
        """See `Engine`: what happens to long texts is the upstream's own way, so there is one space."""
        return self._space

    def prepare(self, text: str, input_type: InputType) -> PreparedText:
        """See `Engine`; the variant is the upstream's model name."""
        query = input_type is InputType.QUERY
        prompts, names = self._model.prompts, self._model.upstream_model
        name = names if isinstance(names, str) else names.query if query else names.document
        return PreparedText((prompts.query if query else prompts.document) + text, variant=name)

    async def embed(self, texts: Sequence[PreparedText], truncation: Truncation) -> EngineBatch:  # noqa: ARG002
        """See `Engine`. If one call fails, those that have not started are not made.

        Tokens cannot be counted here: a text that is too long is refused by the upstream, without its position.
        """
        started = time.perf_counter()
        calls = list(split(texts))
        answers = await self._answers([[texts[row] for row in rows] for rows in calls])
        embeddings: dict[int, Embedding] = {}
        for rows, answer in zip(calls, answers, strict=True):
            counted = answer.tokens if len(rows) == 1 else None
            for row, vector in zip(rows, answer.vectors, strict=True):
                embeddings[row] = Embedding(vector, counted, truncated=False)
        tokens = sum(answer.tokens for answer in answers)
        return EngineBatch([embeddings[row] for row in range(len(texts))], tokens, time.perf_counter() - started)

    async def count_tokens(self, texts: Sequence[PreparedText]) -> Sequence[int]:  # noqa: ARG002
        """See `Engine`; an upstream has no way to count without computing."""
        raise InvalidField(f"{self._info.name!r} is remote, and its upstream does not count tokens", field="model")

    async def _answers(self, calls: Sequence[Sequence[PreparedText]]) -> list[UpstreamAnswer]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._call(texts)) for texts in calls]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _call(self, texts: Sequence[PreparedText]) -> UpstreamAnswer:
        async with self._calls:
            prompted = [text.prompted for text in texts]
            return await self._upstream.embed(texts[0].variant, prompted, self._model.dimensions)


_SPACE_FIELDS = ("upstream", "upstream_model", "dimensions", "max_tokens", "normalize", "prompts", "revision")


def split(texts: Sequence[PreparedText]) -> Iterator[list[int]]:
    """Row numbers of each upstream call: one variant, a bounded number of texts and of characters."""
    by_variant: dict[str, list[int]] = {}
    for row, text in enumerate(texts):
        by_variant.setdefault(text.variant, []).append(row)
    for rows in by_variant.values():
        call: list[int] = []
        characters = 0
        for row in rows:
            length = len(texts[row].prompted)
            if call and (len(call) == _TEXTS_PER_CALL or characters + length > _CHARACTERS_PER_CALL):
                yield call
                call, characters = [], 0
            call.append(row)
            characters += length
        yield call


def _described(name: str, model: RemoteModel) -> ModelInfo:
    names = model.upstream_model
    distinct = isinstance(names, PerInputType) or model.prompts.query != model.prompts.document
    shown = names if isinstance(names, str) else f"{names.query} | {names.document}"
    return ModelInfo(
        name=name,
        engine=model.engine,
        source=f"{model.upstream}: {shown}",
        state=ModelState.LOADING,
        revision=model.revision,
        max_tokens=model.max_tokens,
        truncations=(Truncation.ERROR,) if model.max_tokens else (Truncation.ERROR, Truncation.END),
        normalized=model.normalize,
        license=model.license,
        parameters=model.parameters,
        price_per_million_tokens=model.price_per_million_tokens,
        requires_input_type=distinct,
    )
