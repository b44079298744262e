"""The evaluator's way to embedding services: the public client, with its errors turned into the domain's."""

from collections.abc import Sequence

from embedscale.client.embedding import AsyncEmbeddingClient
from embedscale.client.errors import ClientError
from embedscale.core import embedding as domain
from embedscale.core.dataset_audit import TokenLimits
from embedscale.core.evaluation import EvaluationSpec
from embedscale.servicekit.status import from_reason
from embedscale.v1 import types_pb2 as wire


class ClientTextEmbedder:
    """The ports `TextEmbedder` and `TokenCounter` over `AsyncEmbeddingClient`."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._client = AsyncEmbeddingClient(addresses)

    async def embed(
        self, spec: EvaluationSpec, texts: Sequence[str], input_type: domain.InputType
    ) -> domain.EmbeddedTexts:
        """See `TextEmbedder`."""
        try:
            result = await self._client.embed(
                texts,
                model=spec.model,
                input_type=input_type.value,
                dimensions=spec.dimensions,
                truncation=spec.truncation.value,
            )
        except ClientError as error:
            raise _translated(error) from None
        return domain.EmbeddedTexts(
            result.vectors, result.fingerprint, result.tokens_used, result.cost, result.cache_hits, result.truncated
        )

    async def limits(self, model: str) -> TokenLimits:
        """See `TokenCounter`."""
        try:
            described = await self._client.model(model)
        except ClientError as error:
            raise _translated(error) from None
        return TokenLimits(described.max_tokens, wire.TRUNCATION_WINDOWS in described.truncations)

    async def count_tokens(self, model: str, texts: Sequence[str], input_type: domain.InputType) -> Sequence[int]:
        """See `TokenCounter`."""
        try:
            return await self._client.count_tokens(texts, model=model, input_type=input_type.value)
        except ClientError as error:
            raise _translated(error) from None

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()


def _translated(error: ClientError) -> Exception:
    return from_reason(error.reason, error.message, field=error.field, retry_after=error.retry_after)
