"""One packed call: in its turn, within the budget, again after failures that may pass, in halves if it is refused."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from embedscale.core.errors import EmbedscaleError, UpstreamRateLimited, UpstreamRefusedKey, UpstreamRejected
from embedscale.embedding.catalog import RemoteModel
from embedscale.embedding.stages import INPUTS, MODEL, TOKENS
from embedscale.embedding.waits import batch_span
from embedscale.openai_proxy.bisection import isolate
from embedscale.openai_proxy.orders import QueuedText, Row, drop_late, fail, wanted
from embedscale.openai_proxy.spending import Spending
from embedscale.openai_proxy.telemetry import UPSTREAM_DOLLARS, UPSTREAM_TOKENS
from embedscale.openai_proxy.tokens import apportioned
from embedscale.openai_proxy.upstream import TextsRefused, Upstream, UpstreamAnswer
from embedscale.servicekit.openai_faults import TryAgain
from embedscale.servicekit.rate_limits import Limiter
from embedscale.servicekit.retries import Retries
from embedscale.tracing.spans import Attributes, Span

_TOKENS_PER_PRICE = 1e6


@dataclass(frozen=True)
class Calls:
    """Calls to one model of an upstream."""

    name: str
    """Catalog name of the model."""
    model: RemoteModel
    upstream: Upstream
    limiter: Limiter
    spending: Spending
    retries: Retries

    async def make(self, upstream_model: str, texts: Sequence[QueuedText]) -> None:
        """Fill, refuse or fail every text."""

        try:
            await self._fill_or_isolate(upstream_model, texts)
        except EmbedscaleError as error:
            fail(texts, error)

    async def _fill_or_isolate(self, upstream_model: str, texts: Sequence[QueuedText]) -> None:
        try:
            await self._fill(upstream_model, texts)
        except TextsRefused as refusal:
            await isolate(wanted(texts), lambda some: self._fill(upstream_model, some), refusal.error)

    async def _fill(self, upstream_model: str, texts: Sequence[QueuedText]) -> None:
        """Fill these texts, or fail those whose deadline is too near. Raises what concerns all of them."""
        tries = 0
        while texts := await self._in_turn(texts):
            try:
                _deliver(texts, await self._paid(upstream_model, texts))
            except TryAgain as failure:
                tries += 1
                texts = await self._after_pause(texts, tries, failure)
            else:
                return

    async def _in_turn(self, texts: Sequence[QueuedText]) -> Sequence[QueuedText]:
        """Wait for the limits; returns the texts that can wait so long."""
        texts = wanted(texts)
        if not texts:
            return texts
        patience = max(text.order.deadline for text in texts) - time.monotonic()
        wait = await self.limiter.reserve(sum(text.tokens for text in texts), patience)
        if wait:
            texts = drop_late(texts, wait, too_late(self.upstream.name, wait))
            await asyncio.sleep(wait if texts else 0)
        return wanted(texts)

    async def _after_pause(self, texts: Sequence[QueuedText], tries: int, failure: TryAgain) -> Sequence[QueuedText]:
        if failure.told is not None:
            await self.limiter.pause(failure.told)
        pause = self.retries.pause(tries, failure.told)
        if pause is None:
            raise failure.error from None
        texts = drop_late(texts, pause, failure.error)
        await asyncio.sleep(pause if texts else 0)
        return texts

    async def _paid(self, upstream_model: str, texts: Sequence[QueuedText]) -> UpstreamAnswer:
        reserved = spent = self._dollars(sum(text.tokens for text in texts))
        seconds = max(text.order.deadline for text in texts) - time.monotonic()
        day = await self.spending.reserve(reserved)
        try:
            with self._traced(texts):
                answer = await self.upstream.embed(upstream_model, [text.text for text in texts], self.model, seconds)
            spent = reserved if answer.tokens is None else self._dollars(answer.tokens)
        except (TryAgain, TextsRefused, UpstreamRefusedKey, UpstreamRejected) as failure:
            # Whoever computes sends a bill, even if the answer is not waited for or gets lost.
            spent = reserved if isinstance(failure, TryAgain) and not failure.refused else 0.0
            raise
        finally:
            UPSTREAM_DOLLARS.labels(self.name).inc(spent)
            await self.spending.settle(day, reserved, spent)
        UPSTREAM_TOKENS.labels(self.name).inc(answer.tokens or 0)
        if answer.pause:
            await self.limiter.pause(answer.pause)
        return answer

    def _traced(self, texts: Sequence[QueuedText]) -> AbstractContextManager[Span]:
        waits = [order.wait for order in dict.fromkeys(text.order for text in texts)]
        attributes: Attributes = {MODEL: self.name, INPUTS: len(texts), TOKENS: sum(text.tokens for text in texts)}
        return batch_span(f"upstream {self.upstream.name}", waits, attributes, kind="CLIENT")

    def _dollars(self, tokens: int) -> float:
        return tokens * self.model.price_per_million_tokens / _TOKENS_PER_PRICE


def too_late(upstream: str, wait: float) -> UpstreamRateLimited:
    """Refusal of what would have to wait beyond its deadline."""
    return UpstreamRateLimited(f"the limits of upstream {upstream!r} are used up for {wait:.1f} s", retry_after=wait)


def _deliver(texts: Sequence[QueuedText], answer: UpstreamAnswer) -> None:
    exact = len(texts) == 1 and answer.tokens is not None
    charges = apportioned(answer.tokens or 0, [text.tokens for text in texts])
    for text, vector, tokens in zip(texts, answer.vectors, charges, strict=True):
        text.order.fill(text.position, Row(vector, tokens, exact))
