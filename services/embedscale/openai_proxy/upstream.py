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
    EmbedscaleError,
    UpstreamChanged,
    UpstreamRateLimited,
    UpstreamRefusedKey,
    UpstreamRejected,
    UpstreamUnavailable,
)
from embedscale.embedding.catalog import RemoteModel
from embedscale.openai_proxy.rate_headers import exhausted, retry_after
from embedscale.servicekit.telemetry import UPSTREAM_CALLS

_DEFAULT_RETRY_AFTER_SECONDS = 5.0
_MAY_PASS = (408, 409)
_ABOUT_TEXTS = (400, 413, 422)
_LENGTH_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class UpstreamAnswer:
    """Vectors of one call, row i for text i; the tokens charged, None if it does not tell; a pause it asks for."""

    vectors: Matrix
    tokens: int | None
    pause: float | None


class TryAgain(Exception):
    """A call failed in a way that may pass: `told` are the seconds that the upstream asks for, if it does.

    `refused` says whether it is known that nothing was computed, so that nothing is charged.
    """

    def __init__(self, error: EmbedscaleError, told: float | None = None, *, refused: bool) -> None:
        super().__init__(error.message)
        self.error, self.told, self.refused = error, told, refused


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
        """Embed texts within the time. Raises TryAgain, TextsRefused or an Upstream* error; none holds what it said."""
        try:
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

    async def _asked(
        self, upstream_model: str, texts: Sequence[str], model: RemoteModel, most_seconds: float
    ) -> UpstreamAnswer:
        try:
            async with asyncio.timeout(min(self._timeout_seconds, max(most_seconds, 0.0))):
                raw = await self._client.embeddings.with_raw_response.create(
                    model=upstream_model, input=list(texts), encoding_format="base64"
                )
            # Models of the SDK for thousands of rows would take longer than all the rest.
            answer = json.loads(raw.content)
            vectors = _in_order(answer["data"], len(texts), model.dimensions)
            usage, named = answer.get("usage"), str(answer.get("model") or "")
            tokens = max(int(usage["total_tokens"]), 0) if usage else None
        except TimeoutError:
            raise TryAgain(
                UpstreamUnavailable(f"upstream {self.name!r} did not answer in time"), refused=False
            ) from None
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
    """Map an error of the SDK to ours."""
    match error:
        case openai.APIStatusError():
            return _of_status(error, name)
        case openai.APITimeoutError():
            return TryAgain(UpstreamUnavailable(f"upstream {name!r} did not answer in time"), refused=False)
        case openai.APIConnectionError():
            # By its name: the SDK sends by httpx2, and older ones by httpx.
            unsent = type(error.__cause__).__name__ == "ConnectError"
            return TryAgain(UpstreamUnavailable(f"upstream {name!r} cannot be reached"), refused=unsent)
        case _:
            return UpstreamChanged(f"upstream {name!r} gave an answer that is not an embeddings answer")


def _of_status(error: openai.APIStatusError, name: str) -> Exception:
    status, headers = error.status_code, error.response.headers
    if status in (401, 403):
        return UpstreamRefusedKey(f"upstream {name!r} refused the key (HTTP {status})")
    if status == 429:
        told = retry_after(headers)
        told = exhausted(headers) if told is None else told
        pause = _DEFAULT_RETRY_AFTER_SECONDS if told is None else told
        return TryAgain(
            UpstreamRateLimited(f"upstream {name!r} limits the rate", retry_after=pause), told, refused=True
        )
    if status in _MAY_PASS or status >= 500:
        failed = UpstreamUnavailable(f"upstream {name!r} failed (HTTP {status})")
        return TryAgain(failed, retry_after(headers), refused=True)
    refusal = UpstreamRejected(f"upstream {name!r} refused the request (HTTP {status})")
    return TextsRefused(refusal) if status in _ABOUT_TEXTS else refusal
