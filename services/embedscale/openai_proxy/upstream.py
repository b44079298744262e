"""Calls an OpenAI-compatible embeddings endpoint through the official SDK and checks what comes back."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import openai
from openai.types import Embedding as UpstreamEmbedding

from embedscale.core.embedding import Matrix
from embedscale.core.errors import (
    EmbedscaleError,
    UpstreamChanged,
    UpstreamRateLimited,
    UpstreamRefusedKey,
    UpstreamRejected,
    UpstreamUnavailable,
)

_DEFAULT_RETRY_AFTER_SECONDS = 5.0
_LONGEST_RETRY_AFTER_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class UpstreamAnswer:
    """Vectors of one call, row i for text i, and the tokens charged."""

    vectors: Matrix
    tokens: int


class Upstream:
    """One base URL with its key. The SDK retries 408, 409, 429, 5xx and lost connections, and obeys Retry-After."""

    def __init__(self, name: str, base_url: str, api_key: str, *, timeout_seconds: float, max_retries: int) -> None:
        self.name = name
        self._client = openai.AsyncOpenAI(
            base_url=base_url, api_key=api_key, timeout=timeout_seconds, max_retries=max_retries
        )
        self._client.organization = self._client.project = None  # the SDK takes OpenAI's from the environment

    async def embed(self, model: str, texts: Sequence[str], dimensions: int) -> UpstreamAnswer:
        """Embed texts. Raises an Upstream* error; its text holds nothing that the upstream said."""
        try:
            answer = await self._client.embeddings.create(model=model, input=list(texts), encoding_format="base64")
            vectors = _in_order(answer.data, len(texts), dimensions)
            tokens = max(int(answer.usage.total_tokens), 0) if answer.usage else 0
        except openai.OpenAIError as error:
            raise _translated(error, self.name) from None
        except (AttributeError, TypeError, ValueError):
            raise UpstreamChanged(f"upstream {self.name!r} did not answer as an embeddings endpoint does") from None
        if vectors is None:
            raise UpstreamChanged(f"upstream {self.name!r} did not return {len(texts)} vectors of {dimensions} numbers")
        return UpstreamAnswer(vectors, tokens)

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()


def _in_order(data: Sequence[UpstreamEmbedding], count: int, dimensions: int) -> Matrix | None:
    """Rows sorted by their index; None unless there is exactly one of the right length for each text."""
    rows = {item.index: _vector(item.embedding) for item in data}
    if len(data) != count or sorted(rows) != list(range(count)):
        return None
    if any(row.shape != (dimensions,) for row in rows.values()):
        return None
    return np.stack([rows[index] for index in range(count)])


def _vector(given: object) -> Matrix:
    if isinstance(given, str):
        return np.frombuffer(base64.b64decode(given), "<f4").astype(np.float32)
    return np.asarray(given, np.float32)


def _translated(error: openai.OpenAIError, name: str) -> EmbedscaleError:
    """Map an error of the SDK to ours."""
    match error:
        case openai.AuthenticationError() | openai.PermissionDeniedError():
            return UpstreamRefusedKey(f"upstream {name!r} refused the key (HTTP {error.status_code})")
        case openai.RateLimitError():
            return UpstreamRateLimited(f"upstream {name!r} limits the rate", retry_after=_retry_after(error))
        case openai.APIStatusError() if error.status_code < 500:
            return UpstreamRejected(f"upstream {name!r} refused the request (HTTP {error.status_code})")
        case openai.APIStatusError():
            return UpstreamUnavailable(f"upstream {name!r} failed (HTTP {error.status_code})")
        case openai.APITimeoutError():
            return UpstreamUnavailable(f"upstream {name!r} did not answer in time")
        case openai.APIConnectionError():
            return UpstreamUnavailable(f"upstream {name!r} cannot be reached")
        case _:
            return UpstreamChanged(f"upstream {name!r} gave an answer that is not an embeddings answer")


def _retry_after(error: openai.RateLimitError) -> float:
    try:
        seconds = float(error.response.headers.get("retry-after", ""))
    except ValueError:
        return _DEFAULT_RETRY_AFTER_SECONDS
    return (
        min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_SECONDS) if math.isfinite(seconds) else _DEFAULT_RETRY_AFTER_SECONDS
    )
