"""The engine port over an upstream: counts, queues, and puts together what comes back."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from embedscale.core.embedding import (
    Embedding,
    EngineBatch,
    InputType,
    ModelInfo,
    ModelState,
    PreparedText,
    Truncation,
)
from embedscale.core.errors import (
    EmbedscaleError,
    InputRejected,
    InputTooLong,
    InvalidField,
    Retryable,
    UpstreamUnavailable,
)
from embedscale.core.fingerprint import fingerprint
from embedscale.embedding.catalog import PerInputType, RemoteModel
from embedscale.openai_proxy.calls import Calls, too_late
from embedscale.openai_proxy.orders import Order, QueuedText
from embedscale.openai_proxy.packer import Packer
from embedscale.openai_proxy.tokens import Tokenizer, estimated

log = logging.getLogger(__name__)

_RECONNECT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Sized:
    """A text as it is sent, its tokens then and before it was cut."""

    text: str
    tokens: int
    uncut_tokens: int

    @property
    def truncated(self) -> bool:
        return self.tokens < self.uncut_tokens


class UpstreamEngine:
    """One remote model.

    `packers` has one for each of the upstream's names for it. A caller without a deadline is given `patience_seconds`.
    """

    def __init__(
        self, calls: Calls, packers: Mapping[str, Packer], tokenizer: Tokenizer | None, patience_seconds: float
    ) -> None:
        self._calls = calls
        self._model = calls.model
        self._packers = packers
        self._tokenizer = tokenizer
        self._patience_seconds = patience_seconds
        self._space = fingerprint(
            {"engine": "openai", **self._model.model_dump(mode="json", include=set(_SPACE_FIELDS))}
        )
        self._info = _described(calls.name, self._model, counts=tokenizer is not None)

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
                await self.embed([probe], Truncation.ERROR)
            except (UpstreamUnavailable, Retryable) as error:
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

    async def prime(self) -> None:
        """See `Engine`; nothing here holds up others."""

    async def wake(self) -> None:
        """See `Engine`; nobody knows when an upstream comes back, so nobody waits for it."""

    async def close(self) -> None:
        """See `Engine`."""
        for packer in self._packers.values():
            await packer.close()
        await self._calls.upstream.close()

    def fingerprint(self, truncation: Truncation) -> str:  # noqa: ARG002
        """See `Engine`: a long text is cut by its upstream, or here as its upstream would; there is one space."""
        return self._space

    def prepare(self, text: str, input_type: InputType) -> PreparedText:
        """See `Engine`; the variant is the upstream's model name."""
        query = input_type is InputType.QUERY
        prompts, names = self._model.prompts, self._model.upstream_model
        name = names if isinstance(names, str) else names.query if query else names.document
        return PreparedText((prompts.query if query else prompts.document) + text, variant=name)

    async def embed(
        self, texts: Sequence[PreparedText], truncation: Truncation, deadline: float | None = None
    ) -> EngineBatch:
        """See `Engine`. After the first error but InputRejected, what has not been sent is not sent.

        Without a tokenizer a text that is too long is refused by the upstream, or cut by it.
        """
        started = time.monotonic()
        sized = await self._sized(texts, truncation)
        order = Order(len(texts), deadline if deadline is not None else started + self._patience_seconds)
        self._refuse_late(order, started)
        for name, queued in _by_name(texts, sized, order).items():
            self._packers[name].add(queued)
        try:
            await order.done
        finally:
            order.wait.over({})
        computed = {position: self._embedding(order, position, sized[position]) for position in order.rows}
        tokens = sum(row.tokens for row in order.rows.values())
        if order.refused:
            raise InputRejected(min(order.refused), computed, tokens)
        return EngineBatch([computed[row] for row in range(len(texts))], tokens, time.monotonic() - started)

    async def count_tokens(self, texts: Sequence[PreparedText]) -> Sequence[int]:
        """See `Engine`. Raises InvalidField where the model's tokenizer is not here."""
        if not self._tokenizer:
            raise InvalidField(f"{self._info.name!r} is remote, and its tokenizer is not on this server", field="model")
        return await asyncio.to_thread(self._tokenizer.count, [text.prompted for text in texts])

    async def _sized(self, texts: Sequence[PreparedText], truncation: Truncation) -> list[_Sized]:
        prompted = [text.prompted for text in texts]
        if not self._tokenizer:
            return _uncut(prompted, [estimated(text) for text in prompted])
        counts = await asyncio.to_thread(self._tokenizer.count, prompted)
        return await asyncio.to_thread(_cut, prompted, counts, self._tokenizer, self._model.max_tokens, truncation)

    def _refuse_late(self, order: Order, now: float) -> None:
        opens_at = self._calls.limiter.opens_at
        if max(order.deadline, now) < opens_at:
            raise too_late(self._calls.upstream.name, opens_at - now)

    def _embedding(self, order: Order, position: int, sized: _Sized) -> Embedding:
        row = order.rows[position]
        count = sized.uncut_tokens if self._tokenizer else row.tokens if row.exact else None
        return Embedding(row.vector, count, sized.truncated)


_SPACE_FIELDS = ("upstream", "upstream_model", "dimensions", "max_tokens", "normalize", "prompts", "revision")


def _uncut(texts: Sequence[str], counts: Sequence[int]) -> list[_Sized]:
    return [_Sized(text, count, count) for text, count in zip(texts, counts, strict=True)]


def _cut(
    texts: Sequence[str], counts: Sequence[int], tokenizer: Tokenizer, limit: int, truncation: Truncation
) -> list[_Sized]:
    """Texts of at most `limit` tokens, 0 for no limit. Raises InputTooLong under ERROR."""
    sized = _uncut(texts, counts)
    for position, count in enumerate(counts if limit else ()):
        if count > limit:
            if truncation is Truncation.ERROR:
                raise InputTooLong(position, count, limit)
            sized[position] = _Sized(tokenizer.cut(texts[position], limit), limit, count)
    return sized


def upstream_names(model: RemoteModel) -> list[str]:
    """The upstream's names for a model: one, or one for each input type."""
    names = model.upstream_model
    return [names] if isinstance(names, str) else [names.query, names.document]


def _by_name(texts: Sequence[PreparedText], sized: Sequence[_Sized], order: Order) -> dict[str, list[QueuedText]]:
    groups: dict[str, list[QueuedText]] = {}
    for position, (text, size) in enumerate(zip(texts, sized, strict=True)):
        groups.setdefault(text.variant, []).append(QueuedText(size.text, size.tokens, order, position))
    return groups


def _described(name: str, model: RemoteModel, *, counts: bool) -> ModelInfo:
    distinct = isinstance(model.upstream_model, PerInputType) or model.prompts.query != model.prompts.document
    cuts = counts or not model.max_tokens
    return ModelInfo(
        name=name,
        engine=model.engine,
        source=f"{model.upstream}: {' | '.join(upstream_names(model))}",
        state=ModelState.LOADING,
        revision=model.revision,
        max_tokens=model.max_tokens,
        truncations=(Truncation.ERROR, Truncation.END) if cuts else (Truncation.ERROR,),
        normalized=model.normalize,
        license=model.license,
        parameters=model.parameters,
        price_per_million_tokens=model.price_per_million_tokens,
        requires_input_type=distinct,
        tokenizer=model.tokenizer,
    )
