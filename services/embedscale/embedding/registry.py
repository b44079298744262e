"""The models that a server hosts."""

import asyncio
from collections.abc import Mapping, Sequence

from embedscale.core.embedding import ModelInfo, ModelState
from embedscale.core.errors import ModelFailed, ModelNotFound, ModelStarting
from embedscale.core.ports import Engine


class ModelRegistry:
    """Finds engines by model name, and refuses those that are not ready."""

    def __init__(self, engines: Sequence[Engine], preload: Sequence[str] | None = None) -> None:
        self._engines = {engine.info.name: engine for engine in engines}
        self._preload = list(self._engines) if preload is None else preload
        self._starting: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the engines to preload; return as soon as one is ready. Raises ModelFailed if none of them came up."""
        await asyncio.gather(*(engine.prime() for engine in self._engines.values()))
        self._starting = [asyncio.create_task(self._engines[name].start()) for name in self._preload]
        for next_started in asyncio.as_completed(self._starting):
            await next_started
            if any(info.state is ModelState.READY for info in self.models()):
                return
        preloaded = [self._engines[name].info for name in self._preload]
        raise ModelFailed("; ".join(f"{info.name}: {info.state_message}" for info in preloaded))

    async def close(self) -> None:
        """Give up what is still starting, and close all engines."""
        for task in self._starting:
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        await asyncio.gather(*(engine.close() for engine in self._engines.values()))

    def models(self) -> list[ModelInfo]:
        """All models by name, whatever their state."""
        return [self._engines[name].info for name in sorted(self._engines)]

    def find(self, name: str) -> Engine:
        """Find an engine in whatever state. Raises ModelNotFound."""
        if name not in self._engines:
            hosted = ", ".join(sorted(self._engines))
            raise ModelNotFound(f"no model {name!r} here; this server has: {hosted}", field="model")
        return self._engines[name]

    def readiness(self) -> Mapping[str, bool]:
        """Whether each model answers at once."""
        return {info.name: info.state is ModelState.READY for info in self.models()}

    async def ready(self, name: str) -> Engine:
        """Find an engine that can answer, maybe after a wait. Raises ModelNotFound, ModelStarting or ModelFailed."""
        engine = self.find(name)
        await engine.wake()
        info = engine.info
        if not info.fingerprint and info.state is not ModelState.FAILED:
            raise ModelStarting(f"model {name!r} is starting: {info.state_message or 'try again soon'}")
        if info.state is ModelState.FAILED:
            raise ModelFailed(f"model {name!r} could not be loaded: {info.state_message}")
        return engine
