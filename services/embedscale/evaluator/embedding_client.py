"""The evaluator's way to embedding services: the public client, with patience, and its errors as the domain's."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from embedscale.client import AsyncEmbeddingClient, ClientOptions
from embedscale.client import errors as client_errors
from embedscale.client.embedding import TIMEOUT_SECONDS
from embedscale.client.options import DEFAULT
from embedscale.core import embedding as domain
from embedscale.core.dataset_audit import TokenLimits
from embedscale.core.errors import DeadlineExceeded
from embedscale.core.evaluation import EvaluationSpec
from embedscale.servicekit.status import from_reason
from embedscale.v1 import types_pb2 as wire

AnswerT = TypeVar("AnswerT")

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0


class ClientTextEmbedder:
    """The ports `TextEmbedder` and `TokenCounter` over `AsyncEmbeddingClient`.

    A service that is busy or away is asked again for `patience_seconds`, after the pause that it advises.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        patience_seconds: float,
        options: ClientOptions = DEFAULT,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._client = AsyncEmbeddingClient(addresses, replace(options, retries=0))  # the patience is here
        self._patience = patience_seconds
        self._timeout = timeout_seconds

    async def embed(
        self, spec: EvaluationSpec, texts: Sequence[str], input_type: domain.InputType
    ) -> domain.EmbeddedTexts:
        """See `TextEmbedder`."""
        embedding = partial(
            self._client.embed,
            texts,
            model=spec.model,
            input_type=input_type.value,
            dimensions=spec.dimensions,
            truncation=spec.truncation.value,
            timeout=self._timeout,
        )
        result = await self._patiently(embedding, f"{len(texts)} texts")
        return domain.EmbeddedTexts(
            result.vectors, result.fingerprint, result.tokens_used, result.cost, result.cache_hits, result.truncated
        )

    async def limits(self, model: str) -> TokenLimits:
        """See `TokenCounter`."""
        described = await self._patiently(partial(self._client.model, model), "what a model can do")
        return TokenLimits(described.max_tokens, wire.TRUNCATION_WINDOWS in described.truncations)

    async def count_tokens(self, model: str, texts: Sequence[str], input_type: domain.InputType) -> Sequence[int]:
        """See `TokenCounter`."""
        counting = partial(
            self._client.count_tokens, texts, model=model, input_type=input_type.value, timeout=self._timeout
        )
        return await self._patiently(counting, f"{len(texts)} texts")

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()

    async def _patiently(self, ask: Callable[[], Awaitable[AnswerT]], what: str) -> AnswerT:
        """Ask until there is an answer to `what`, or patience ends. Raises errors of the domain's tree."""
        until = time.monotonic() + self._patience
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return await ask()
            except (client_errors.ResourceExhausted, client_errors.Unavailable) as error:
                advised = max(error.retry_after or 0.0, pause)
                if time.monotonic() + advised > until:
                    raise _translated(error) from None
            except client_errors.DeadlineExceeded as error:
                message = f"the embedding service did not answer {what} in time: {error.message}"
                raise DeadlineExceeded(message) from None
            except client_errors.ClientError as error:
                raise _translated(error) from None
            await asyncio.sleep(advised)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


def _translated(error: client_errors.ClientError) -> Exception:
    message = error.message
    if isinstance(error, client_errors.Unauthenticated | client_errors.PermissionDenied):
        message = f"the embedding service refuses the evaluator's own token: {message}"
    return from_reason(error.reason, message, field=error.field, retry_after=error.retry_after)
