"""The evaluator's way to embedding services: the public client, with its errors turned into the domain's."""

from collections.abc import Sequence

from embedscale.client.embedding import AsyncEmbeddingClient
from embedscale.client.errors import ClientError
from embedscale.core import embedding as domain
from embedscale.core.evaluation import EvaluationSpec
from embedscale.servicekit.status import from_reason


class ClientTextEmbedder:
    """The port `TextEmbedder` over `AsyncEmbeddingClient`."""

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

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()


def _translated(error: ClientError) -> Exception:
    return from_reason(error.reason, error.message, field=error.field, retry_after=error.retry_after)
