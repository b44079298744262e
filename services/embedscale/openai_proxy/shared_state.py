"""What all replicas of the proxy know of an upstream together, in Redis."""

import logging
import time
from collections.abc import Sequence

from embedscale.embedding.patience import within
from embedscale.embedding.redis_store import RedisStore
from embedscale.servicekit.redis_connection import FAILURES

log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 0.25
_PASSED_OVER_SECONDS = 1.0


class SharedState:
    """Runs scripts. It never fails: where there is no Redis, or none that answers, everybody goes on alone."""

    def __init__(self, store: RedisStore | None) -> None:
        self._store = store
        self._passed_over_until = 0.0
        self._failing = False

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[str]) -> str | None:
        """Answer of a script; None without one."""
        if not self._store or time.monotonic() < self._passed_over_until:
            return None
        try:
            answer = await within(_PATIENCE_SECONDS, self._store.run(script, keys, arguments))
        except FAILURES as error:
            if not self._failing:
                log.warning("limits are kept by this process alone: Redis failed: %s", type(error).__name__)
            self._failing = True
            self._passed_over_until = time.monotonic() + _PASSED_OVER_SECONDS
            return None
        self._failing = False
        return answer.decode() if isinstance(answer, bytes) else str(answer)

    async def close(self) -> None:
        """Close connections."""
        if self._store:
            await self._store.close()
