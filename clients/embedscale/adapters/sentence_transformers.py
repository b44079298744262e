"""Embedscale with the methods of a `SentenceTransformer`; neither that package nor torch is needed."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embedscale.client import EmbeddingClient
from embedscale.client.embedding import InputType, Truncation

Vectors = NDArray[np.float32]


class SentenceEncoder:
    """Embeds with one model of a client, which the caller closes. Methods raise ClientError.

    Long texts are cut, as sentence-transformers does, unless `truncation` says otherwise.

    >>> encoder = SentenceEncoder(client, "all-MiniLM-L6-v2")                     # doctest: +SKIP
    >>> encoder.encode_document(["Cats sleep.", "Cows eat."]).shape               # doctest: +SKIP
    (2, 384)
    """

    def __init__(
        self, client: EmbeddingClient, model: str, *, truncate_dim: int = 0, truncation: Truncation = "end"
    ) -> None:
        self._client = client
        self.model = model
        self.truncate_dim = truncate_dim
        self.truncation = truncation

    def encode(
        self,
        sentences: str | Sequence[str],
        *,
        prompt_name: Literal["query", "document"] | None = None,
        normalize_embeddings: bool = False,
        convert_to_numpy: bool = True,
        batch_size: int | None = None,  # noqa: ARG002 - the client splits by the servers' limits
        show_progress_bar: bool | None = None,  # noqa: ARG002
    ) -> Vectors | list[Vectors]:
        """Embed one text, as a vector of shape (d,), or several, as a matrix of shape (n, d).

        `prompt_name` says what the texts are for. With `convert_to_numpy` False, several texts give a list of vectors.
        `batch_size` and `show_progress_bar` are taken for compatibility, and change nothing.
        """
        single = isinstance(sentences, str)
        vectors = self._embed([sentences] if isinstance(sentences, str) else sentences, prompt_name or "unspecified")
        if normalize_embeddings:
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
        if single:
            first: Vectors = vectors[0]
            return first
        return vectors if convert_to_numpy else list(vectors)

    def encode_query(self, sentences: str | Sequence[str], *, normalize_embeddings: bool = False) -> Vectors:
        """Embed queries; see `encode`."""
        return np.asarray(self.encode(sentences, prompt_name="query", normalize_embeddings=normalize_embeddings))

    def encode_document(self, sentences: str | Sequence[str], *, normalize_embeddings: bool = False) -> Vectors:
        """Embed passages; see `encode`."""
        return np.asarray(self.encode(sentences, prompt_name="document", normalize_embeddings=normalize_embeddings))

    def get_sentence_embedding_dimension(self) -> int:
        """Length of a vector."""
        return self.truncate_dim or self._client.model(self.model).dimensions

    def _embed(self, texts: Sequence[str], input_type: InputType) -> Vectors:
        return self._client.embed(
            texts,
            model=self.model,
            input_type=input_type,
            dimensions=self.truncate_dim,
            truncation=self.truncation,
        ).vectors
