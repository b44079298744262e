"""The engine port over an `Encoder`: loads it, tokenises and computes on threads, never blocks the event loop."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TypeVar

import torch

from embedscale.core.embedding import (
    EngineBatch,
    EngineLoad,
    InputType,
    Matrix,
    ModelInfo,
    ModelState,
    PreparedText,
    Truncation,
)
from embedscale.core.fingerprint import fingerprint
from embedscale.embedder.encoder import Encoder
from embedscale.embedder.memory import estimated_bytes, release
from embedscale.embedder.scheduler import BatchTooLarge, QueuePolicy, Scheduler
from embedscale.embedder.tokenizing import read_tokenizer
from embedscale.embedder.weights import WeightsError, file_digests, locate
from embedscale.embedding.admission import estimated_tokens
from embedscale.embedding.catalog import LocalModel, Prompts
from embedscale.embedding.stages import stage

log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

_FIRST_BUDGET = 1024
"""Padded tokens a batch until the loaded model has told."""


class TorchEngine:
    """One local model, with a thread that tokenises and, in its scheduler, those that compute."""

    def __init__(
        self, name: str, model: LocalModel, *, device: str, token_budget: int | None, policy: QueuePolicy | None = None
    ) -> None:
        self._model = model
        self._device = device
        self._token_budget = token_budget
        self._policy = policy or QueuePolicy()
        self._scheduler = Scheduler(name, self._forward, token_budget or _FIRST_BUDGET, self._policy)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"{name}-tokenize")
        self._arriving_tokens = 0
        self._info = _described(name, model)
        self._prompts = model.prompts or Prompts()
        self._fingerprints: dict[str, str] = {}

    @property
    def info(self) -> ModelInfo:
        """See `Engine`."""
        return self._info

    @property
    def load(self) -> EngineLoad:
        """See `Engine`."""
        queued = self._scheduler.queued_tokens + self._arriving_tokens
        return EngineLoad(queued, self._policy.queued_tokens, self._scheduler.tokens_per_second)

    async def prime(self) -> None:
        """See `Engine`: reads the tokenizer where its files need no download."""
        with suppress(Exception):
            await self._on_thread(lambda: read_tokenizer(locate(self._model.source, fetch=False)))

    async def start(self) -> None:
        """See `Engine`. A failure is kept in `info`."""
        self._info = replace(self._info, state=ModelState.LOADING, state_message="")
        try:
            self._encoder = await self._on_thread(self._load)
        except Exception as error:
            log.exception("model %s could not be loaded", self._info.name)
            reason = str(error) if isinstance(error, WeightsError | ImportError) else type(error).__name__
            self._info = replace(self._info, state=ModelState.FAILED, state_message=reason)
            return
        self._scheduler.compute_with(self._encoder.token_budget, self._encoder.slots)
        profile = self._encoder.profile
        self._prompts = profile.prompts
        self._info = replace(
            self._info,
            state=ModelState.READY,
            max_tokens=profile.max_tokens,
            truncations=_truncations(profile.pooling),
            pooling=profile.pooling,
            normalized=profile.normalize,
            requires_input_type=profile.prompts.query != profile.prompts.document,
            dimensions=self._encoder.dimensions,
            supported_dimensions=(*self._model.matryoshka, self._encoder.dimensions),
            parameters=self._encoder.parameters,
            memory_bytes=self._encoder.memory_bytes,
            fingerprint=self.fingerprint(Truncation.END),
        )

    async def wake(self) -> None:
        """See `Engine`; what is not in memory is for `Residency` to load."""

    async def unload(self) -> None:
        """See `UnloadableEngine`. A batch whose callers have left may still be computed, and has its end awaited."""
        self._info = replace(self._info, state=ModelState.UNLOADED)
        await self._scheduler.idle()
        del self._encoder
        await self._on_thread(self._release)

    async def close(self) -> None:
        """See `Engine`."""
        await self._scheduler.close()
        await asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True)

    def fingerprint(self, truncation: Truncation) -> str:
        """See `Engine`: ERROR and END share a space, for a vector that END returns uncut is the one of ERROR."""
        return self._fingerprints.get("windows" if truncation is Truncation.WINDOWS else "end", "")

    def prepare(self, text: str, input_type: InputType) -> PreparedText:
        """See `Engine`."""
        prompt = self._prompts.query if input_type is InputType.QUERY else self._prompts.document
        return PreparedText(prompt + text)

    async def embed(
        self,
        texts: Sequence[PreparedText],
        truncation: Truncation,
        deadline: float | None = None,  # noqa: ARG002
    ) -> EngineBatch:
        """See `Engine`. Texts of all callers wait in one queue; what is not awaited any more is not computed."""
        name = self._info.name
        with self._arriving(texts, truncation), stage(name, "tokenize"):
            split = await self._on_thread(lambda: self._encoder.split([text.prompted for text in texts], truncation))
        pooled, seconds = await self._scheduler.run(split.windows)
        with stage(name, "pool"):
            return EngineBatch(self._encoder.join(split, pooled), split.token_count, seconds)

    async def count_tokens(self, texts: Sequence[PreparedText]) -> Sequence[int]:
        """See `Engine`."""
        return await self._on_thread(lambda: self._encoder.token_counts([text.prompted for text in texts]))

    def _load(self) -> Encoder:
        folder = locate(self._model.source)
        digests = file_digests(folder, self._model)
        encoder = Encoder(folder, self._model, device=self._device, token_budget=self._token_budget)
        encoder.encode(["ready"], Truncation.END)
        settings = self._model.model_dump(mode="json", include=set(_SPACE_FIELDS))
        space = {"engine": "torch", "files": digests, **encoder.facts(), **settings}
        fingerprints = {way: fingerprint({**space, "long_text": way}) for way in ("end", "windows")}
        if self._fingerprints not in ({}, fingerprints):
            raise WeightsError(f"the model in {folder} is no longer the one that was loaded before: restart the server")
        self._fingerprints = fingerprints
        self._release()
        return encoder

    def _release(self) -> None:
        # The modules of bitsandbytes refer to each other; all else is gone with its last reference.
        release(cycles=self._model.quantization != "none")

    def _forward(self, windows: Sequence[Sequence[int]], alone: bool) -> Matrix:
        try:
            return self._encoder.forward(windows, alone=alone)
        except torch.OutOfMemoryError as error:
            failure = BatchTooLarge(f"{self._info.name} has no memory for {len(windows)} windows: {error}")
        torch.cuda.empty_cache()
        raise failure

    @contextmanager
    def _arriving(self, texts: Sequence[PreparedText], truncation: Truncation) -> Iterator[None]:
        """Count texts in the load before their tokens are known."""
        tokens = estimated_tokens(texts, truncation, self._info.max_tokens)
        self._arriving_tokens += tokens
        try:
            yield
        finally:
            self._arriving_tokens -= tokens

    async def _on_thread(self, work: Callable[[], ResultT]) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


_SPACE_FIELDS = ("dtype", "quantization", "compute_dtype", "double_quantization", "code_revision")


def _truncations(pooling: str) -> tuple[Truncation, ...]:
    return (Truncation.ERROR, Truncation.END, *([Truncation.WINDOWS] if pooling == "mean" else []))


def _described(name: str, model: LocalModel) -> ModelInfo:
    """What is known of a model before it is loaded."""
    source, prompts = model.source, model.prompts or Prompts()
    return ModelInfo(
        name=name,
        engine=model.engine,
        source=source.label,
        state=ModelState.UNLOADED,
        revision=source.revision or next(iter(model.sha256.values()), ""),
        max_tokens=model.max_tokens or 0,
        truncations=_truncations(model.pooling or ""),
        pooling=model.pooling or "",
        normalized=model.normalize is not False,
        dtype=model.dtype,
        quantization="" if model.quantization == "none" else model.quantization,
        memory_bytes=estimated_bytes(model),
        license=model.license,
        parameters=model.parameters,
        requires_input_type=prompts.query != prompts.document,
    )
