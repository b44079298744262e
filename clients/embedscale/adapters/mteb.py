"""Embedscale as an encoder of MTEB, the benchmark of embedding models."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedscale.adapters.extras import missing
from embedscale.client import EmbeddingClient
from embedscale.client.embedding import InputType, Truncation

try:
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ModelMeta, ScoringFunction
    from mteb.types import PromptType
except ModuleNotFoundError:
    raise missing("mteb") from None

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.types import BatchedInput
    from torch.utils.data import DataLoader


class EmbedscaleEncoder(AbsEncoder):
    """Embeds with one model of a client, which the caller closes. Methods raise ClientError.

    Texts of tasks without queries (clustering, classification) are embedded as documents. Long texts are cut, as MTEB's
    own models do, unless `truncation` says otherwise. Results are stored under the model's name and, as its revision,
    the fingerprint, with `dimensions` and `truncation` where they are not the defaults: MTEB would take them for the
    same.

    >>> mteb.evaluate(EmbedscaleEncoder(client, "all-MiniLM-L6-v2"), tasks)   # doctest: +SKIP
    """

    def __init__(
        self, client: EmbeddingClient, model: str, *, dimensions: int = 0, truncation: Truncation = "end"
    ) -> None:
        self._client = client
        self._name = model
        self._dimensions = dimensions
        self._truncation = truncation
        self.mteb_model_meta = _described(client, model, dimensions, truncation)

    def encode(
        self,
        inputs: "DataLoader[BatchedInput]",
        *,
        task_metadata: "TaskMetadata",  # noqa: ARG002
        hf_split: str,  # noqa: ARG002
        hf_subset: str,  # noqa: ARG002
        prompt_type: PromptType | None = None,
        **_options: Any,
    ) -> NDArray[np.float32]:
        """Embed all texts of the batches: a matrix of shape (n, d)."""
        input_type: InputType = "query" if prompt_type is PromptType.query else "document"
        # Some of its corpora have empty documents, which servers refuse.
        texts = (text or " " for batch in inputs for text in batch["text"])
        return self._client.embed(
            texts,
            model=self._name,
            input_type=input_type,
            dimensions=self._dimensions,
            truncation=self._truncation,
        ).vectors


def _described(client: EmbeddingClient, model: str, dimensions: int, truncation: Truncation) -> ModelMeta:
    served = client.model(model)
    changes = (str(dimensions or ""), truncation if truncation != "end" else "")
    revision = "-".join(filter(None, (served.fingerprint, *changes)))
    return ModelMeta.create_empty(
        {
            "name": f"embedscale/{model}",
            "revision": revision or None,
            "max_tokens": served.max_tokens or None,
            "embed_dim": dimensions or served.dimensions,
            "n_parameters": served.parameters or None,
            "similarity_fn_name": ScoringFunction.COSINE,
        }
    )
