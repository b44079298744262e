"""The mix: how often each kind of request comes, and callers who make them. Request n of a seed is always the same."""

import asyncio
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tests.soak import embedding, evaluating, gateway
from tests.soak.world import World

Operation = Callable[[World, random.Random], Awaitable[None]]

CALLERS = 16
STUCK_SECONDS = 120.0
KEPT_FAILURES = 20
MIX: Mapping[str, tuple[float, Operation]] = {
    "Embed": (40, embedding.embed),
    "EmbedStream": (5, embedding.embed_stream),
    "EmbedStream, abandoned": (2, embedding.abandoned_stream),
    "CountTokens": (6, embedding.count_tokens),
    "ListModels": (5, embedding.list_models),
    "GetModel": (5, embedding.get_model),
    "Health.Check": (5, embedding.health),
    "Health.Watch": (1, embedding.health_watch),
    "Embed, invalid": (6, embedding.invalid),
    "Embed, too long": (1, embedding.too_long),
    "no message or method": (1, embedding.malformed),
    "Embed, cancelled": (3, embedding.cancelled),
    "Embed, deadline passed": (1, embedding.deadline_passed),
    "Embed, deadline short": (1, embedding.deadline_short),
    "Embed, disconnecting": (0.5, embedding.disconnecting),
    "GetCacheStats": (0.2, embedding.cache_stats),
    "PurgeCache": (0.01, embedding.cache_purge),
    "HTTP embeddings": (8, gateway.embeddings),
    "HTTP models": (1, gateway.models),
    "HTTP health": (2, gateway.health),
    "HTTP invalid": (3, gateway.invalid),
    "HTTP malformed": (1, gateway.malformed),
    "HTTP hang-up": (1, gateway.hangs_up),
    "HTTP hang-up in the body": (0.5, gateway.hangs_up_within_the_body),
    "evaluations read": (1, evaluating.reading),
    "evaluations invalid": (0.3, evaluating.invalid),
    "evaluation watched": (0.3, evaluating.watched_for_a_moment),
    "evaluation": (0.03, evaluating.evaluation),
    "evaluation cancelled": (0.01, evaluating.cancelled),
}
_NAMES = list(MIX)
_WEIGHTS = [weight for weight, _ in MIX.values()]


@dataclass
class Callers:
    """Make requests until all are done or `stopping` is set, and keep count of what became of them."""

    world: World
    seed: int
    requests: int
    stopping: asyncio.Event
    done: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    """The first of them."""
    counts: Counter[str] = field(default_factory=Counter)
    embed_seconds: list[tuple[int, float]] = field(default_factory=list)
    """How many requests were done when an Embed was answered, and how long it had taken."""

    async def run(self) -> None:
        numbers = iter(range(self.requests))
        await asyncio.gather(*(self._caller(numbers) for _ in range(CALLERS)))

    async def _caller(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            if self.stopping.is_set():
                return
            await self._one(number)

    async def _one(self, number: int) -> None:
        pick = random.Random(f"{self.seed} {number}")
        name = pick.choices(_NAMES, _WEIGHTS)[0]
        started = time.perf_counter()
        try:
            async with asyncio.timeout(STUCK_SECONDS):
                await MIX[name][1](self.world, pick)
        except Exception as error:
            self._note(f"request {number}, {name}: {_where(error)}: {error!r}"[:600])
        self.done += 1
        self.counts[name] += 1
        if name == "Embed":
            self.embed_seconds.append((self.done, time.perf_counter() - started))

    def _note(self, failure: str) -> None:
        self.failed += 1
        if len(self.failures) < KEPT_FAILURES:
            self.failures.append(failure)
            print(failure, file=sys.stderr, flush=True)


def _where(error: Exception) -> str:
    """The last line of ours, for asserts tell nothing else."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.line}"
