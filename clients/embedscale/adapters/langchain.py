"""Embedscale as LangChain's `Embeddings`."""

from embedscale.adapters.extras import missing
from embedscale.client import EmbeddingClient
from embedscale.client.embedding import InputType, Truncation

try:
    from langchain_core.embeddings import Embeddings
except ModuleNotFoundError:
    raise missing("langchain") from None


class EmbedscaleEmbeddings(Embeddings):
    """Embeds with one model of a client, which the caller closes. Methods raise ClientError.

    The asynchronous methods, which LangChain derives from these, run them on threads.

    >>> embeddings = EmbedscaleEmbeddings(client, "all-MiniLM-L6-v2")   # doctest: +SKIP
    >>> store = InMemoryVectorStore(embeddings)                         # doctest: +SKIP
    """

    def __init__(
        self, client: EmbeddingClient, model: str, *, dimensions: int = 0, truncation: Truncation = "error"
    ) -> None:
        self._client = client
        self.model = model
        self.dimensions = dimensions
        self.truncation = truncation

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed passages; list i belongs to text i."""
        return self._embed(texts, "document")

    def embed_query(self, text: str) -> list[float]:
        """Embed a question."""
        return self._embed([text], "query")[0]

    def _embed(self, texts: list[str], input_type: InputType) -> list[list[float]]:
        result = self._client.embed(
            texts,
            model=self.model,
            input_type=input_type,
            dimensions=self.dimensions,
            truncation=self.truncation,
        )
        vectors: list[list[float]] = result.vectors.tolist()
        return vectors
