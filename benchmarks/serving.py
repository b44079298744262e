"""What serving costs over computing: many callers against batches offline, and one caller against the bare encoder.

    python benchmarks/serving.py [--rounds 5] [--seconds 4] [--json FILE]

The server runs in a process of its own, without a cache. Server and offline measurements alternate within a round, so
that both see the same machine; the table gives the median of the rounds and their range.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Threads that spin while they wait lose whole time slices to other processes; neither side does.
os.environ["OMP_WAIT_POLICY"] = "passive"

import grpc
import numpy as np
from sentence_transformers import SentenceTransformer

from embedscale.core.embedding import Truncation
from embedscale.embedder.encoder import Encoder
from embedscale.embedder.weights import locate
from embedscale.embedding.catalog import LocalModel, load_catalog
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub

MODEL = "all-MiniLM-L6-v2"
CALLERS = 32
TEXTS = [f"Which office decides on appeal number {number} of the harbour council?" for number in range(CALLERS)]
Figures = dict[str, list[float]]


def request(text: str) -> pb.EmbedRequest:
    """One text as a request."""
    return pb.EmbedRequest(model=MODEL, inputs=[pb.Input(text=text)])


async def served_rate(stub: EmbeddingServiceStub, seconds: float) -> float:
    """Texts a second of 32 callers, each with one text at a time."""
    answered = 0
    end = time.perf_counter() + seconds

    async def caller(text: str) -> None:
        nonlocal answered
        while time.perf_counter() < end:
            await stub.Embed(request(text))
            answered += 1

    started = time.perf_counter()
    await asyncio.gather(*map(caller, TEXTS))
    return answered / (time.perf_counter() - started)


def offline_rate(encoder: Encoder, seconds: float) -> float:
    """Texts a second of the bare encoder in batches of 32."""
    batches = 0
    started = time.perf_counter()
    while time.perf_counter() < started + seconds:
        encoder.encode(TEXTS, Truncation.ERROR)
        batches += 1
    return batches * CALLERS / (time.perf_counter() - started)


async def served_latency(stub: EmbeddingServiceStub, calls: int) -> float:
    """Median milliseconds of one caller of one text, through gRPC."""
    return await _median_ms(lambda text: stub.Embed(request(text)), calls)


async def encoder_latency(encoder: Encoder, calls: int) -> float:
    """Median milliseconds of one text in the bare encoder."""
    return await _median_ms(_done(lambda text: encoder.encode([text], Truncation.ERROR)), calls)


async def reference_latency(reference: SentenceTransformer, calls: int) -> float:
    """Median milliseconds of one text in sentence-transformers, in process."""
    return await _median_ms(_done(lambda text: reference.encode([text], show_progress_bar=False)), calls)


def _done(work: Callable[[str], object]) -> Callable[[str], Awaitable[object]]:
    async def call(text: str) -> object:
        return work(text)

    return call


async def _median_ms(call: Callable[[str], Awaitable[object]], calls: int) -> float:
    taken = []
    for number in range(calls):
        started = time.perf_counter()
        await call(TEXTS[number % CALLERS])
        taken.append(time.perf_counter() - started)
    return 1000 * float(np.median(taken))


async def measure(stub: EmbeddingServiceStub, rounds: int, seconds: float) -> Figures:
    """All figures, a value a round."""
    model = load_catalog().models[MODEL]
    assert isinstance(model, LocalModel)
    folder = locate(model.source)
    encoder = Encoder(folder, model, device="cpu", token_budget=1024)
    reference = SentenceTransformer(str(folder), device="cpu")
    await served_rate(stub, 1)
    figures: Figures = {}
    for _ in range(rounds):
        found = {
            "offline texts/s": offline_rate(encoder, seconds),
            "served texts/s": await served_rate(stub, seconds),
            "encoder p50 ms": await encoder_latency(encoder, 60),
            "served p50 ms": await served_latency(stub, 60),
            "sentence-transformers p50 ms": await reference_latency(reference, 60),
        }
        found["served / offline rate"] = found["served texts/s"] / found["offline texts/s"]
        found["served / encoder p50"] = found["served p50 ms"] / found["encoder p50 ms"]
        found["served / sentence-transformers p50"] = found["served p50 ms"] / found["sentence-transformers p50 ms"]
        for name, value in found.items():
            figures.setdefault(name, []).append(value)
    return figures


async def main() -> None:
    """Start a server, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder) / "port"
        command = [sys.executable, "-m", "embedscale.embedder", f"--models={MODEL}", f"--port-file={port_file}"]
        with subprocess.Popen([*command, "--drain-seconds=1", "--log-level=warning"]) as server:
            try:
                figures = await _against(port_file, server, options.rounds, options.seconds)
            finally:
                server.terminate()
    for name, values in figures.items():
        print(f"{name:36} {np.median(values):9.2f}   ({min(values):.2f} to {max(values):.2f})")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


async def _against(port_file: Path, server: "subprocess.Popen[bytes]", rounds: int, seconds: float) -> Figures:
    while not port_file.exists():
        if server.poll() is not None:
            raise SystemExit("the server did not start")
        await asyncio.sleep(0.05)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port_file.read_text()}") as channel:
        stub = EmbeddingServiceStub(channel)
        while (await stub.ListModels(pb.ListModelsRequest())).models[0].state != pb.MODEL_STATE_READY:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        return await measure(stub, rounds, seconds)


if __name__ == "__main__":
    asyncio.run(main())
