"""The peer `infinity_emb`: installed once into an environment of its own, started on a folder of weights.

It pins older versions of what we use, and so cannot share our environment. It gets the same weights, number of threads
and processor; its own batching, tokenising and HTTP API are as it ships them.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.common import WORK
from embedscale.cli.local_cluster import free_port

NAME, VERSION = "infinity_emb", "0.0.78"
TORCH, PEER = "torch==2.13.0", f"{NAME}[torch,server]=={VERSION}"


def installed() -> Path:
    """Program of the peer; installs it the first time."""
    folder = WORK / "infinity"
    program = folder / "bin" / "infinity_emb"
    if not program.exists():
        print("installing infinity_emb into .bench/infinity, once: about two minutes", flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        for package in (TORCH, PEER):  # torch by itself first: a later pin would pull CUDA
            subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "--quiet", package], check=True)
    return program


@contextmanager
def infinity(weights: Path, name: str) -> Iterator[str]:
    """Start the peer; its base URL, once it has warmed up."""
    port = free_port()
    command = [installed(), "v2", "--model-id", weights, "--served-model-name", name, "--host", "127.0.0.1"]
    options = ["--port", str(port), "--engine", "torch", "--device", "cpu", "--log-level", "error"]
    environment = os.environ | {"DO_NOT_TRACK": "1"}
    with (WORK / "infinity.log").open("w") as log:
        process = subprocess.Popen([*command, *options], env=environment, stdout=log, stderr=log)
    try:
        while not _answers(f"http://127.0.0.1:{port}/health"):
            if process.poll() is not None:
                raise SystemExit(f"infinity_emb did not start; see {log.name}")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.HTTPError:
        return False
