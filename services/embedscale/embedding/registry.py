"""The models that a server hosts."""

import asyncio
from collections.abc import Sequence

from embedscale.core.embedding import ModelInfo, ModelState
from embedscale.core.errors import ModelFailed, ModelNotFound, ModelStarting
from embedscale.core.ports import Engine


class ModelRegistry:
    """Finds engines by model name, and refuses those that are not ready."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = {engine.info.name: engine for engine in engines}

    async def start(self) -> None:
        """Start all engines side by side. Raises ModelFailed if none of them came up."""
        await asyncio.gather(*(engine.start() for engine in self._engines.values()))
        if not any(info.state is ModelState.READY for info in self.models()):
            raise ModelFailed("; ".join(f"{info.name}: {info.state_message}" for info in self.models()))

    async def close(self) -> None:
        """Close all engines."""
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

    def ready(self, name: str) -> Engine:
        """Find an engine that can compute. Raises ModelNotFound, ModelStarting or ModelFailed."""
        engine = self.find(name)
        info = engine.info
        if info.state is ModelState.LOADING:
            raise ModelStarting(f"model {name!r} is starting: {info.state_message or 'try again soon'}")
        if info.state is ModelState.FAILED:
            raise ModelFailed(f"model {name!r} could not be loaded: {info.state_message}")
        return engine
