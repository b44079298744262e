"""A soak: many mixed requests against real processes, each answer checked, while memory, handles and latency stay flat.

Exit status: 0 if all is well, 1 if an answer was wrong or something grows, 130 if it was stopped and all was well.
"""

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from tests.soak import evaluating
from tests.soak.cluster import Cluster, running
from tests.soak.filling import fill, learn
from tests.soak.flatness import FEWEST_REQUESTS
from tests.soak.mix import Callers
from tests.soak.report import Outcome, document, plot
from tests.soak.sampling import Sampler, busy, latency
from tests.soak.world import World, connected

REQUESTS = 200_000
STOPPED = 130


async def main(arguments: argparse.Namespace) -> int:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    print(f"SEED={arguments.seed} REQUESTS={arguments.requests}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder)) as cluster, connected(cluster, arguments.seed) as world:
            outcome = await soak(cluster, world, arguments, stopping)
    print(outcome.markdown)
    if arguments.json:
        arguments.json.write_text(json.dumps(outcome.json, indent=1) + "\n", "utf-8")
    if arguments.plot:
        plot(outcome, arguments.plot)
    if arguments.docs:
        document(outcome)
    if not outcome.passed:
        return 1
    return STOPPED if outcome.done < outcome.requests else 0


async def soak(cluster: Cluster, world: World, arguments: argparse.Namespace, stopping: asyncio.Event) -> Outcome:
    world.reference = (await evaluating.finished(world)).name
    if arguments.requests >= FEWEST_REQUESTS:
        await fill(cluster, world, stopping)
    await learn(world)
    callers = Callers(world, arguments.seed, arguments.requests, stopping)
    started = time.monotonic()
    async with sampled(cluster, callers, started) as sampler:
        await callers.run()
    seconds = time.monotonic() - started
    left = await busy(cluster)
    return Outcome(
        arguments.seed, arguments.requests, callers.done, callers.failed, seconds, world.answers.compared,
        dict(callers.counts.most_common()), callers.failures, cluster.complaints(), dict(left),
        [*sampler.series.values(), *latency(callers.embed_seconds, callers.done)],
    )  # fmt: skip


@contextlib.asynccontextmanager
async def sampled(cluster: Cluster, callers: Callers, started: float) -> AsyncIterator[Sampler]:
    """Sample and report progress; a process that ends, ends the soak."""
    sampler = Sampler(cluster)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(sampler.run(lambda: callers.done)),
                group.create_task(progress(callers, started)),
            ]
            yield sampler
            for task in tasks:
                task.cancel()
    finally:
        await sampler.close()


async def progress(callers: Callers, started: float) -> None:
    """A line that changes on a terminal, and one every ten seconds elsewhere."""
    here = sys.stderr.isatty()
    while True:
        rate = callers.done / max(time.monotonic() - started, 1e-9)
        line = f"{callers.done:,} of {callers.requests:,} requests, {rate:,.0f} a second, {callers.failed:,} wrong"
        print(line, end="\r" if here else "\n", file=sys.stderr, flush=True)
        await asyncio.sleep(1.0 if here else 10.0)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="how many; %(default)s by default")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="repeats a run's requests")
    parser.add_argument("--json", type=Path, help="write everything to this file")
    parser.add_argument("--plot", type=Path, help="draw the series into this picture")
    parser.add_argument("--docs", action="store_true", help="write the table and the picture into docs/")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main(parsed())))
