"""The health check of containers tells a server that serves from one that starts, drains or is not there."""

import asyncio
import sys

import pytest

from embedscale.cli.local_cluster import free_port
from embedscale.servicekit.lifecycle import Application, Server
from embedscale.servicekit.settings import ServerSettings

SERVICE = "embedscale.v1.EmbeddingService"


async def check(address: str, *service: str) -> int:
    command = [sys.executable, "-m", "embedscale.servicekit.healthcheck", address, *service]
    return await (await asyncio.create_subprocess_exec(*command)).wait()


async def checks(address: str) -> list[int]:
    """Of the server as a whole, and of its service."""
    return await asyncio.gather(check(address), check(address, SERVICE))


async def test_a_server_is_healthy_only_while_it_serves() -> None:
    server = Server(Application(SERVICE, lambda _: None), ServerSettings(drain_seconds=5))
    await server.listen()
    address = f"127.0.0.1:{server.port}"
    assert await checks(address) == [1, 1]
    await server.become_ready()
    assert await checks(address) == [0, 0]
    await server.health.enter_graceful_shutdown()
    assert await checks(address) == [1, 1]
    await server.stop()  # now nothing listens
    assert await checks(address) == [1, 1]


async def test_a_service_that_a_server_does_not_have_is_not_healthy(embedder: str) -> None:
    assert await check(embedder, "nobody") == 1


async def test_a_proxy_of_the_environment_is_not_asked(embedder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert await check(embedder) == 0
