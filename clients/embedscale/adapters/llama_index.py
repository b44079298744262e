"""Embedscale as LlamaIndex's `BaseEmbedding`."""

import asyncio
from typing import Any

from embedscale.adapters.extras import missing
from embedscale.client import EmbeddingClient
from embedscale.client.embedding import InputType, Truncation

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import PrivateAttr
except ModuleNotFoundError:
    raise missing("llama-index") from None

_BATCH_SIZE = 1024
"""Texts that LlamaIndex hands over at once; the client splits them for the servers."""

_Vector = list[float]


class EmbedscaleEmbedding(BaseEmbedding):
    """Embeds with one model of a client, which the caller closes. Methods raise ClientError.

    >>> embedding = EmbedscaleEmbedding(client, "all-MiniLM-L6-v2")         # doctest: +SKIP
    >>> index = VectorStoreIndex.from_documents(documents, embed_model=embedding)  # doctest: +SKIP
    """

    dimensions: int = 0
    truncation: Truncation = "error"
    _client: EmbeddingClient = PrivateAttr()

    def __init__(self, client: EmbeddingClient, model: str, **options: Any) -> None:
        super().__init__(model_name=model, **{"embed_batch_size": _BATCH_SIZE, **options})
        self._client = client

    @classmethod
    def class_name(cls) -> str:
        """Name under which LlamaIndex stores its settings."""
        return "EmbedscaleEmbedding"

    def _get_query_embedding(self, query: str) -> _Vector:
        return self._embed([query], "query")[0]

    def _get_text_embedding(self, text: str) -> _Vector:
        return self._embed([text], "document")[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[_Vector]:
        return self._embed(texts, "document")

    async def _aget_query_embedding(self, query: str) -> _Vector:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text: str) -> _Vector:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[_Vector]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)

    def _embed(self, texts: list[str], input_type: InputType) -> list[_Vector]:
        result = self._client.embed(
            texts,
            model=self.model_name,
            input_type=input_type,
            dimensions=self.dimensions,
            truncation=self.truncation,
        )
        vectors: list[_Vector] = result.vectors.tolist()
        return vectors
