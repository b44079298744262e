"""An engine that can leave memory, and a ledger that notes every breach of what residency promises."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from embedscale.core.embedding import EngineBatch, ModelState, PreparedText, Truncation
from tests.fakes.hash_engine import HashEngine


@dataclass
class Ledger:
    """Bytes in memory now and at most."""

    now: int = 0
    peak: int = 0
    loaded: list[str] = field(default_factory=list)

    def change(self, size: int) -> None:
        self.now += size
        self.peak = max(self.peak, self.now)


class LoadableEngine(HashEngine):
    """Takes `load_seconds` to load and `real_bytes` of memory; fails to load while it has a `fault`."""

    def __init__(
        self, name: str, ledger: Ledger, *, estimate: int, real_bytes: int | None = None, load_seconds: float = 0.0
    ) -> None:
        super().__init__(name)
        self.ledger = ledger
        self.real_bytes = estimate if real_bytes is None else real_bytes
        self.load_seconds = load_seconds
        self.fault = ""
        self.loads = 0
        self.computing = 0
        self.info = replace(self.info, state=ModelState.UNLOADED, memory_bytes=estimate)

    async def start(self) -> None:
        assert self.info.state in (ModelState.UNLOADED, ModelState.FAILED)
        self.loads += 1
        self.info = replace(self.info, state=ModelState.LOADING)
        self.ledger.change(self.real_bytes)
        await asyncio.sleep(self.load_seconds)
        if self.fault:
            self.ledger.change(-self.real_bytes)
            self.info = replace(self.info, state=ModelState.FAILED, state_message=self.fault)
            return
        await super().start()
        self.info = replace(self.info, state_message="", memory_bytes=self.real_bytes)
        self.ledger.loaded.append(self.info.name)

    async def unload(self) -> None:
        assert self.info.state is ModelState.READY
        assert not self.computing, "unloaded in use"
        self.info = replace(self.info, state=ModelState.UNLOADED)
        await asyncio.sleep(0)
        self.ledger.change(-self.real_bytes)
        self.ledger.loaded.remove(self.info.name)

    async def embed(
        self, texts: Sequence[PreparedText], truncation: Truncation, deadline: float | None = None
    ) -> EngineBatch:
        assert self.info.state is ModelState.READY, "computed while not in memory"
        self.computing += 1
        try:
            return await super().embed(texts, truncation, deadline)
        finally:
            self.computing -= 1
