"""Which models are in memory: loaded at their first call, unloaded when others need the room."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from embedscale.core.embedding import (
    EngineBatch,
    EngineLoad,
    InputType,
    ModelInfo,
    ModelState,
    PreparedText,
    Truncation,
)
from embedscale.core.errors import EmbedscaleError, ModelFailed, Overloaded
from embedscale.core.ports import UnloadableEngine
from embedscale.embedding.admission import estimated_tokens
from embedscale.embedding.telemetry import LOADED_BYTES, LOADED_MODELS, MODEL_LOADS, MODEL_UNLOADS

log = logging.getLogger(__name__)

RETRY_SECONDS = 30.0
"""Pause after a load that failed; calls in between get its reason."""
ROOM_SECONDS = 10.0
"""How long a load waits for models in use to become idle before its callers are refused."""


class Residency:
    """Shares a memory budget among models.

    `budget_bytes` limits the weights that are loaded or being loaded; None is no limit. A load that would exceed it
    first unloads idle models, the least recently used first. A model in use is never unloaded.
    """

    def __init__(
        self, budget_bytes: int | None, *, room_seconds: float = ROOM_SECONDS, retry_seconds: float = RETRY_SECONDS
    ) -> None:
        self.retry_seconds = retry_seconds
        self._budget = budget_bytes
        self._room_seconds = room_seconds
        self._models: list[ResidentEngine] = []
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()

    def host(self, engine: UnloadableEngine) -> "ResidentEngine":
        """Put an engine under the budget."""
        self._models.append(ResidentEngine(engine, self))
        return self._models[-1]

    def fitting(self) -> list[str]:
        """Names of the models, in the order of hosting, that fit the budget together; others are left out."""
        names, left = [], self._budget
        for model in self._models:
            size = model.info.memory_bytes
            if left is None or size <= left:
                names.append(model.info.name)
                left = left if left is None else left - size
        return names

    @property
    def held_bytes(self) -> int:
        """Bytes of the models that are loaded or being loaded."""
        return sum(model.held_bytes for model in self._models)

    def refusal(self, size: int) -> str:
        """Why a model of so many bytes can never be loaded here; empty if it can."""
        if self._budget is None or size <= self._budget:
            return ""
        return f"it needs {_shown(size)} of memory and the budget is {_shown(self._budget)}"

    async def reserve(self, model: "ResidentEngine", size: int) -> None:
        """Make room for a model and hold it. Raises Overloaded where models in use leave none for too long."""
        async with self._turn:
            deadline = time.monotonic() + self._room_seconds
            while not self._has_room(size):
                if not await self._unload_one() and not await self._one_becomes_idle(deadline):
                    held, budget = _shown(self.held_bytes), _shown(self._budget or 0)
                    message = f"{model.info.name!r} needs {_shown(size)}; models in use hold {held} of {budget}"
                    raise Overloaded(message, retry_after=self._room_seconds)
            model.held_bytes = size

    def settle(self, model: "ResidentEngine") -> bool:
        """Count a loaded model with what it really takes; returns whether the budget holds."""
        model.held_bytes = model.info.memory_bytes
        return self._has_room(0)

    def notice(self) -> None:
        """Hear that a model became idle, or entered or left memory."""
        self._changed.set()
        LOADED_MODELS.set(sum(model.info.state is ModelState.READY for model in self._models))
        LOADED_BYTES.set(self.held_bytes)

    def _has_room(self, size: int) -> bool:
        return self._budget is None or self.held_bytes + size <= self._budget

    async def _unload_one(self) -> bool:
        idle = [model for model in self._models if model.is_idle]
        if idle:
            await min(idle, key=lambda model: model.last_used).unload()
        return bool(idle)

    async def _one_becomes_idle(self, deadline: float) -> bool:
        self._changed.clear()
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True


class ResidentEngine:
    """An engine that is loaded when it is needed; everybody who arrives meanwhile waits for the one load."""

    def __init__(self, engine: UnloadableEngine, residency: Residency) -> None:
        self._engine = engine
        self._residency = residency
        self._users = 0
        self._waiting_tokens = 0
        self._loading: asyncio.Task[EmbedscaleError | None] | None = None
        self._retry_at = 0.0
        self.last_used = 0.0
        self.held_bytes = 0

    @property
    def is_idle(self) -> bool:
        """Whether it is in memory and may leave it."""
        return self._is_ready and not self._users

    @property
    def info(self) -> ModelInfo:
        """See `Engine`."""
        info = self._engine.info
        refusal = self._residency.refusal(info.memory_bytes)
        return replace(info, state=ModelState.FAILED, state_message=refusal) if refusal else info

    @property
    def load(self) -> EngineLoad | None:
        """See `Engine`. Work that waits for the model to be loaded again is queued like any other."""
        load = self._engine.load
        return replace(load, queued_tokens=load.queued_tokens + self._waiting_tokens) if load else None

    async def prime(self) -> None:
        """See `Engine`."""
        await self._engine.prime()

    async def start(self) -> None:
        """See `Engine`."""
        await self._loaded()

    async def wake(self) -> None:
        """See `Engine`. A model that was loaded once needs no memory until something must be computed."""
        info = self.info
        if info.state is ModelState.FAILED or not info.fingerprint:
            await self._need()

    async def close(self) -> None:
        """See `Engine`."""
        if self._loading:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        await self._engine.close()

    def fingerprint(self, truncation: Truncation) -> str:
        """See `Engine`."""
        return self._engine.fingerprint(truncation)

    def prepare(self, text: str, input_type: InputType) -> PreparedText:
        """See `Engine`."""
        return self._engine.prepare(text, input_type)

    async def embed(
        self, texts: Sequence[PreparedText], truncation: Truncation, deadline: float | None = None
    ) -> EngineBatch:
        """See `Engine`."""
        async with self._in_use(estimated_tokens(texts, truncation, self._engine.info.max_tokens)):
            return await self._engine.embed(texts, truncation, deadline)

    async def count_tokens(self, texts: Sequence[PreparedText]) -> Sequence[int]:
        """See `Engine`."""
        async with self._in_use():
            return await self._engine.count_tokens(texts)

    async def unload(self) -> None:
        """Leave memory. Nobody may use it; who arrives meanwhile waits for it to be loaded again."""
        await self._engine.unload()
        self.held_bytes = 0
        MODEL_UNLOADS.labels(self.info.name).inc()
        log.info("model %s was unloaded", self.info.name)
        self._residency.notice()

    @property
    def _is_ready(self) -> bool:
        return self._engine.info.state is ModelState.READY and self._loading is None

    @asynccontextmanager
    async def _in_use(self, tokens: int = 0) -> AsyncIterator[None]:
        """Hold the model in memory; `tokens` are what is to be computed."""
        self._users += 1
        try:
            self._waiting_tokens += tokens
            try:
                await self._need()
            finally:
                self._waiting_tokens -= tokens
            yield
        finally:
            self._users -= 1
            self.last_used = time.monotonic()
            self._residency.notice()

    async def _need(self) -> None:
        if error := await self._loaded():
            raise error

    async def _loaded(self) -> EmbedscaleError | None:
        """Load it if need be. The load goes on when the caller who asked for it has left: others may wait for it."""
        if self._is_ready:
            return None
        self._loading = self._loading or asyncio.create_task(self._load())
        return await asyncio.shield(self._loading)

    async def _load(self) -> EmbedscaleError | None:
        try:
            while not await self._fits():
                await self.unload()
        except EmbedscaleError as error:
            return error
        finally:
            self._loading = None
            self._residency.notice()
        return None

    async def _fits(self) -> bool:
        """Load within the budget; returns whether the weights take no more than there was room for."""
        self._refuse()
        await self._residency.reserve(self, self._engine.info.memory_bytes)
        await self._engine.start()
        info = self._engine.info
        MODEL_LOADS.labels(info.name, info.state.value).inc()
        if info.state is not ModelState.READY:
            self.held_bytes = 0
            self._retry_at = time.monotonic() + self._residency.retry_seconds
            self._refuse()
        self.last_used = time.monotonic()
        return self._residency.settle(self)

    def _refuse(self) -> None:
        info, pause = self.info, self._retry_at - time.monotonic()
        if self._residency.refusal(info.memory_bytes):
            raise ModelFailed(f"model {info.name!r} cannot be loaded: {info.state_message}")
        if pause > 0:
            again = f"it is tried again in {math.ceil(pause)} s"
            raise ModelFailed(f"model {info.name!r} could not be loaded: {info.state_message}; {again}")


def _shown(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
