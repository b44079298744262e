"""Python client of Embedscale: light (no torch), sync and asyncio, numpy in and out.

>>> with EmbeddingClient(["127.0.0.1:50051"]) as client:           # doctest: +SKIP
...     result = client.embed(["What is MRR?"], model="all-MiniLM-L6-v2", input_type="query")
...     result.vectors.shape
(1, 384)
"""

from embedscale.client.cache import AsyncCacheClient
from embedscale.client.embedding import AsyncEmbeddingClient
from embedscale.client.errors import (
    ClientError,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from embedscale.client.evaluation import AsyncEvaluationClient
from embedscale.client.options import ClientOptions
from embedscale.client.results import EmbedResult
from embedscale.client.sync import CacheClient, EmbeddingClient, EvaluationClient

__all__ = [
    "AsyncCacheClient",
    "AsyncEmbeddingClient",
    "AsyncEvaluationClient",
    "CacheClient",
    "ClientError",
    "ClientOptions",
    "DeadlineExceeded",
    "EmbedResult",
    "EmbeddingClient",
    "EvaluationClient",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "NotFound",
    "PermissionDenied",
    "ResourceExhausted",
    "Unauthenticated",
    "Unavailable",
]
