"""Calls an OpenAI-compatible embeddings endpoint through the official SDK, once, and checks what comes back."""

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openai

from embedscale.core.embedding import Matrix
from embedscale.core.errors import (
    DeadlineExceeded,
    EmbedscaleError,
    UpstreamChanged,
    UpstreamRejected,
    UpstreamUnavailable,
)
from embedscale.embedding.catalog import RemoteModel
from embedscale.openai_proxy.telemetry import UPSTREAM_CALLS, UPSTREAM_SECONDS
from embedscale.servicekit.openai_faults import TryAgain, translated
from embedscale.servicekit.rate_headers import exhausted
from embedscale.tracing.spans import current_headers

_ABOUT_TEXTS = (400, 413, 422)
_LENGTH_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class UpstreamAnswer:
    """Vectors of one call, row i for text i; the tokens charged, None if it does not tell; a pause it asks for."""

    vectors: Matrix
    tokens: int | None
    pause: float | None


class TextsRefused(Exception):
    """A call was refused, perhaps for the sake of one of its texts or of their number."""

    def __init__(self, error: UpstreamRejected) -> None:
        super().__init__(error.message)
        self.error = error


class Upstream:
    """One base URL with its key; a model's deployments are found under it where it is Azure OpenAI."""

    def __init__(
        self, name: str, base_url: str, api_key: str, *, timeout_seconds: float, azure_api_version: str = ""
    ) -> None:
        self.name = name
        self._timeout_seconds = timeout_seconds
        self._answering: dict[str, str] = {}
        self._client: openai.AsyncOpenAI
        if azure_api_version:
            self._client = openai.AsyncAzureOpenAI(
                azure_endpoint=base_url, api_key=api_key, api_version=azure_api_version,
                timeout=timeout_seconds, max_retries=0,
            )  # fmt: skip
        else:
            self._client = openai.AsyncOpenAI(
                base_url=base_url, api_key=api_key, timeout=timeout_seconds, max_retries=0
            )
        self._client.organization = self._client.project = None  # the SDK takes OpenAI's from the environment

    async def embed(
        self, upstream_model: str, texts: Sequence[str], model: RemoteModel, most_seconds: float
    ) -> UpstreamAnswer:
        """Embed texts within the time. Raises TryAgain, TextsRefused, DeadlineExceeded or an Upstream* error.

        None of them holds what the upstream said.
        """
        try:
            with UPSTREAM_SECONDS.labels(self.name).time():
                answer = await self._asked(upstream_model, texts, model, most_seconds)
        except (TryAgain, TextsRefused) as failure:
            UPSTREAM_CALLS.labels(self.name, type(failure.error).__name__).inc()
            raise
        except EmbedscaleError as error:
            UPSTREAM_CALLS.labels(self.name, type(error).__name__).inc()
            raise
        UPSTREAM_CALLS.labels(self.name, "ok").inc()
        return answer

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()

    def _late(self, most_seconds: float) -> Exception:
        """Whose time is over: that of the caller who waits longest, or of one call."""
        if most_seconds <= self._timeout_seconds:
            return DeadlineExceeded(f"upstream {self.name!r} did not answer before the caller's deadline")
        return TryAgain(UpstreamUnavailable(f"upstream {self.name!r} did not answer in time"), refused=False)

    async def _asked(
        self, upstream_model: str, texts: Sequence[str], model: RemoteModel, most_seconds: float
    ) -> UpstreamAnswer:
        try:
            async with asyncio.timeout(min(self._timeout_seconds, max(most_seconds, 0.0))):
                raw = await self._client.embeddings.with_raw_response.create(
                    model=upstream_model,
                    input=list(texts),
                    encoding_format="base64",
                    extra_headers=current_headers(),
                )
            # Models of the SDK for thousands of rows would take longer than all the rest.
            answer = json.loads(raw.content)
            vectors = _in_order(answer["data"], len(texts), model.dimensions)
            usage, named = answer.get("usage"), str(answer.get("model") or "")
            tokens = max(int(usage["total_tokens"]), 0) if usage else None
        except TimeoutError:
            raise self._late(most_seconds) from None
        except openai.OpenAIError as error:
            raise _translated(error, self.name) from None
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
            raise UpstreamChanged(f"upstream {self.name!r} did not answer as an embeddings endpoint does") from None
        if vectors is None:
            what = f"{len(texts)} vectors of {model.dimensions} numbers"
            raise UpstreamChanged(f"upstream {self.name!r} did not return {what}")
        self._refuse_changed(vectors, named, upstream_model, model)
        return UpstreamAnswer(vectors, tokens, exhausted(raw.headers))

    def _refuse_changed(self, vectors: Matrix, named: str, upstream_model: str, model: RemoteModel) -> None:
        """Refuse vectors that are not of the catalogued space, or of another model than that of the first answer."""
        if model.normalize and (np.abs(np.linalg.norm(vectors, axis=1) - 1) > _LENGTH_TOLERANCE).any():
            raise UpstreamChanged(f"upstream {self.name!r} returned vectors that do not have length 1")
        if named and named != self._answering.setdefault(upstream_model, named):
            raise UpstreamChanged(f"upstream {self.name!r} answers with another model than at first")


def _in_order(data: Sequence[Mapping[str, Any]], count: int, dimensions: int) -> Matrix | None:
    """Rows sorted by their index; None unless there is exactly one of the right length for each text."""
    rows = {item["index"]: _vector(item["embedding"]) for item in data}
    if len(data) != count or sorted(rows) != list(range(count)):
        return None
    if any(row.shape != (dimensions,) for row in rows.values()):
        return None
    return np.stack([rows[index] for index in range(count)])


def _vector(given: object) -> Matrix:
    if isinstance(given, str):
        return np.frombuffer(base64.b64decode(given), "<f4").astype(np.float32)
    return np.asarray(given, np.float32)


def _translated(error: openai.OpenAIError, name: str) -> Exception:
    """Map an error of the SDK to ours; a refusal that may be for the sake of a text is told apart."""
    ours = translated(error, name, "an embeddings answer")
    about_texts = isinstance(error, openai.APIStatusError) and error.status_code in _ABOUT_TEXTS
    return TextsRefused(ours) if about_texts and isinstance(ours, UpstreamRejected) else ours
