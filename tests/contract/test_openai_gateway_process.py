"""The gateway as a process: it ends in order, and says in a line why it does not start."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx

from tests.conftest import free_port
from tests.contract.test_openai_gateway_http import body, slow_server
from tests.fakes.hash_engine import HASH
from tests.waiting import eventually


def start(*options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "embedscale.openai_gateway", *options], stderr=subprocess.PIPE, text=True
    )


async def test_a_request_that_runs_is_answered_before_the_process_ends(stack: AsyncExitStack, tmp_path: Path) -> None:
    engine, address = await slow_server(stack, seconds=1.5)
    port_file = tmp_path / "port"
    metrics = free_port()
    process = start("--embedding-addresses", address, "--port-file", str(port_file), "--metrics-port", str(metrics))
    stack.callback(process.kill)
    await until_process(process, port_file.exists)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port_file.read_text()}", timeout=30) as client:
        assert (await client.get("/healthz")).status_code == 200
        measured = (await client.get(f"http://127.0.0.1:{metrics}/metrics")).text
        assert 'embedscale_calls_total{code="200",method="GET /healthz"} 1.0' in measured
        call = asyncio.ensure_future(client.post("/v1/embeddings", json=body(model=HASH)))
        await eventually(lambda: engine.batches, "nothing is computed")
        process.send_signal(signal.SIGTERM)
        response = await call
    assert response.status_code == 200
    assert len(json.loads(response.content)["data"]) == 1
    _, log = await asyncio.to_thread(process.communicate, timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in log


async def test_a_request_that_outlasts_the_drain_is_dropped(stack: AsyncExitStack, tmp_path: Path) -> None:
    engine, address = await slow_server(stack, seconds=60)
    port_file = tmp_path / "port"
    process = start("--embedding-addresses", address, "--port-file", str(port_file), "--drain-seconds", "0.5")
    stack.callback(process.kill)
    await until_process(process, port_file.exists)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port_file.read_text()}", timeout=30) as client:
        call = asyncio.ensure_future(client.post("/v1/embeddings", json=body(model=HASH)))
        await eventually(lambda: engine.batches, "nothing is computed")
        process.send_signal(signal.SIGTERM)
        failed = await asyncio.gather(call, return_exceptions=True)
    assert isinstance(failed[0], httpx.TransportError) or failed[0].status_code >= 500
    _, log = await asyncio.to_thread(process.communicate, timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in log
    await eventually(lambda: engine.cancelled == 1, "the work goes on")


async def until_process(process: "subprocess.Popen[str]", happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert process.poll() is None
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def test_without_keys_it_listens_on_loopback_only(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    for options, words in {
        ("--host", "0.0.0.0"): "is needed to listen on 0.0.0.0",
        ("--api-keys-file", str(empty)): "has no key",
        ("--api-keys-file", str(tmp_path / "nothing")): "cannot be read",
    }.items():
        process = start("--embedding-addresses", "127.0.0.1:1", *options)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 2
        assert "--api-keys-file" in said
        assert words in said


def test_a_port_in_use_is_one_line_and_exit_code_2(gateway: str) -> None:
    port = gateway.rpartition(":")[2]
    process = start("--embedding-addresses", "127.0.0.1:1", "--port", port)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said == f"cannot listen on 127.0.0.1:{port}: Address already in use\n"
