"""What a server does when it is offered ten times what it can take: goodput, refusals, memory, recovery.

    python -m benchmarks.overload [--seconds 60] [--quick] [--json FILE]

A request has 32 short passages that were never sent before, and a deadline of 2 s. The peak is that of four callers in
turn, measured before the flood and after it; goodput counts the answers that came in time. Memory is compared after a
short flood and after the long one.

The callers share the processor with the server, and what they take of it is not the server's: requests are made
beforehand, and come five at a time: a call by itself wakes more threads, and costs its caller half as much again.
"""

import asyncio
import time
import uuid
from dataclasses import asdict, dataclass

import grpc
import numpy as np
import psutil
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status

from benchmarks.common import OURS, Goal, Report, arguments, embedder, table, until_ready
from embedscale.evaluator import builtin
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1 import types_pb2 as wire
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub

MODEL = "all-MiniLM-L6-v2"
PASSAGES = list(builtin.load("builtin:velmar/en").corpus.values())
DEADLINE_SECONDS = 2.0
SIZE = 32, 240
"""Passages of a request, and characters of each."""
AT_ONCE = 5
"""Requests of the flood that are sent together."""


def request(texts: list[str]) -> pb.EmbedRequest:
    """Texts as a request."""
    inputs = [pb.Input(text=text) for text in texts]
    return pb.EmbedRequest(model=MODEL, inputs=inputs, truncation=wire.TRUNCATION_END)


def unseen(count: int, characters: int = 1000) -> list[str]:
    """Passages that no cache has."""
    return [f"{uuid.uuid4().hex[:6]} {PASSAGES[number % len(PASSAGES)][:characters]}" for number in range(count)]


class Offered:
    """Requests, and what became of them: moments of answers, seconds of refusals and the refusals themselves."""

    def __init__(self, stub: EmbeddingServiceStub) -> None:
        self.stub = stub
        self.answered: list[float] = []
        self.refused: list[float] = []
        self.refusals: list[grpc.aio.AioRpcError] = []
        self.late = 0

    async def one(self, sent: pb.EmbedRequest, timeout: float) -> None:
        """Send one request."""
        started = time.monotonic()
        try:
            await self.stub.Embed(sent, timeout=timeout)
            self.answered.append(time.monotonic())
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                self.late += 1
                return
            self.refused.append(time.monotonic() - started)
            self.refusals.append(error)

    async def closed_loop(self, callers: int, seconds: float) -> float:
        """Answers a second of so many callers, each with one request at a time."""
        end = time.monotonic() + seconds

        async def caller() -> None:
            while time.monotonic() < end:
                await self.one(request(unseen(*SIZE)), timeout=30)

        await asyncio.gather(*(caller() for _ in range(callers)))
        return sum(moment <= end for moment in self.answered) / seconds

    async def open_loop(self, rate: float, seconds: float) -> float:
        """Answers a second while so many requests a second are sent whatever becomes of them."""
        requests = [request(unseen(*SIZE)) for _ in range(round(rate * seconds))]
        start = time.monotonic()
        async with asyncio.TaskGroup() as calls:
            for first in range(0, len(requests), AT_ONCE):
                await asyncio.sleep(max(start + first / rate - time.monotonic(), 0))
                for sent in requests[first : first + AT_ONCE]:
                    calls.create_task(self.one(sent, DEADLINE_SECONDS))
            end = time.monotonic()
        return sum(moment <= end for moment in self.answered) / (end - start)

    def waits(self) -> list[float]:
        """Seconds that each refusal named."""
        return [_retry_info(error).retry_delay.ToTimedelta().total_seconds() for error in self.refusals]


def _retry_info(error: grpc.aio.AioRpcError) -> RetryInfo:
    (info,) = [found for detail in rpc_status.from_call(error).details if detail.Unpack(found := RetryInfo())]
    return info


@dataclass(frozen=True)
class Overload:
    """What was found; rates are requests a second, and times are seconds."""

    peak: float
    goodput: float
    answered: int
    refused: int
    late: int
    refusals_p99: float
    shortest_wait: float
    longest_wait: float
    recovery: float


async def overload(stub: EmbeddingServiceStub, *, peak_seconds: float, seconds: float) -> Overload:
    """Measure the peak, offer ten times that, then ask for one text, and measure the peak again."""
    before = await Offered(stub).closed_loop(callers=4, seconds=peak_seconds)
    flood = Offered(stub)
    goodput = await flood.open_loop(10 * before, seconds)
    if not flood.refused:
        raise RuntimeError(f"nothing was refused at ten times {before:.2f}/s: this machine is too busy to measure it")
    started = time.monotonic()
    await stub.Embed(request(unseen(1)))
    recovery = time.monotonic() - started
    after = await Offered(stub).closed_loop(callers=4, seconds=peak_seconds)
    return Overload(
        peak=(before + after) / 2,
        goodput=goodput,
        answered=len(flood.answered),
        refused=len(flood.refused),
        late=flood.late,
        refusals_p99=float(np.percentile(flood.refused, 99)),
        shortest_wait=min(flood.waits()),
        longest_wait=max(flood.waits()),
        recovery=recovery,
    )


async def run(address: str, server: psutil.Process, seconds: float) -> Report:
    """Measure, and put the figures into a report."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = EmbeddingServiceStub(channel)
        await until_ready(stub)
        await stub.Embed(request(unseen(256)))  # it learns its speed
        peak = await Offered(stub).closed_loop(callers=4, seconds=seconds / 6)
        await Offered(stub).open_loop(10 * peak, seconds / 6)
        memory = server.memory_info().rss
        found = await overload(stub, peak_seconds=seconds / 3, seconds=seconds)
        grown = server.memory_info().rss / memory
    rows = [(name.replace("_", " "), f"{value:.4g}") for name, value in asdict(found).items()]
    rates = [f"{rate:.2f}/s" for rate in (found.goodput, found.peak)]
    goals = [
        Goal("goodput at ten times the peak", *rates, found.goodput / found.peak, 0.95),
        Goal("refusals, p99, of 50 ms", f"{1000 * found.refusals_p99:.0f} ms", "", found.refusals_p99 / 0.05, 1, True),
        Goal("memory after, of before", f"{memory * grown / 2**20:.0f} MiB", "", grown, 1.05, True),
        Goal("one text right after, of 1 s", f"{found.recovery:.2f} s", "", found.recovery, 1, True),
    ]
    figures = {
        "answers a second": {"peak": {OURS: [found.peak]}, "ten times the peak offered": {OURS: [found.goodput]}},
        "seconds": {
            "99th percentile of refusals": {OURS: [found.refusals_p99]},
            "waits that refusals named": {OURS: [found.shortest_wait, found.longest_wait]},
            "one text right after": {OURS: [found.recovery]},
        },
    }
    measured = table(("what, in requests a second or seconds", "measured"), rows)
    return Report(
        "overload", [f"{MODEL}, {seconds:g} s.", measured], goals, figures, asdict(found) | {"memory_growth": grown}
    )


def main() -> None:
    """Start a server, measure, print."""
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of the flood")
    options = parser.parse_args()
    seconds = 6 if options.quick else options.seconds
    with embedder(MODEL) as (address, process):
        asyncio.run(run(address, psutil.Process(process.pid), seconds)).finish(options.json)


if __name__ == "__main__":
    main()
