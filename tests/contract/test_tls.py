"""TLS and mutual TLS of real servers, and certificates that are replaced while they run."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import grpc
import httpx
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from embedscale.cli.reaching import check_reachable
from embedscale.client import AsyncEmbeddingClient, ClientOptions, Unavailable
from embedscale.embedding.bootstrap import build_application
from embedscale.embedding.settings import EmbeddingServerSettings
from embedscale.servicekit.lifecycle import Server
from embedscale.servicekit.process import AddressUnavailable
from embedscale.servicekit.tls import grpc_credentials
from embedscale.servicekit.watched_files import UnusableFiles
from tests.contract.conftest import gateway_of
from tests.credentials import Credentials
from tests.fakes.hash_engine import HASH, HashEngine

CALLERS = 16
SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    return Credentials(tmp_path / "secret")


async def started(stack: AsyncExitStack, **settings: object) -> Server:
    """A server whose engine is the fake, and all else real."""
    chosen = EmbeddingServerSettings(drain_seconds=1, **settings)
    server = Server(build_application([HashEngine()], chosen), chosen)
    await server.listen()
    stack.push_async_callback(server.stop)
    await server.become_ready()
    return server


async def embed(server: Server, options: ClientOptions, host: str = "localhost") -> None:
    """One call on a connection of its own."""
    async with AsyncEmbeddingClient([f"{host}:{server.port}"], replace(options, retries=0)) as client:
        assert (await client.embed(["a"], model=HASH)).vectors.shape == (1, 384)


async def serial_number(server: Server, credentials: Credentials) -> int:
    """Of the certificate that a new connection is shown."""
    context = ssl.create_default_context(cafile=credentials.ca)
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("localhost", server.port, ssl=context)
    certificate = writer.get_extra_info("peercert")
    writer.close()
    return int(certificate["serialNumber"], 16)


async def test_callers_who_trust_the_authority_get_through(stack: AsyncExitStack, credentials: Credentials) -> None:
    server = await started(stack, **credentials.server)
    await embed(server, credentials.options())
    await embed(server, credentials.options(), "127.0.0.1")


async def test_strangers_do_not(stack: AsyncExitStack, credentials: Credentials, tmp_path: Path) -> None:
    server = await started(stack, **credentials.mutual)
    await embed(server, credentials.identified())
    stranger = Credentials(tmp_path / "stranger")
    for options in (
        credentials.options(),  # without a certificate
        credentials.options(certificate_file=stranger.certificate, key_file=stranger.key),  # with somebody else's
        stranger.identified(),  # who does not trust the server
        ClientOptions(),  # in plain text
    ):
        with pytest.raises(Unavailable):
            await embed(server, options)


async def test_a_certificate_that_has_expired_is_refused_by_callers(
    stack: AsyncExitStack, credentials: Credentials
) -> None:
    credentials.issue_expired()
    server = await started(stack, **credentials.server)
    with pytest.raises(Unavailable):
        await embed(server, credentials.options())
    checks = [check async for check in check_reachable(f"localhost:{server.port}", credentials.options())]
    assert checks[-1].status == "fail"
    assert "expired" in checks[-1].found


async def test_a_callers_expired_certificate_is_refused(
    stack: AsyncExitStack, credentials: Credentials, tmp_path: Path
) -> None:
    server = await started(stack, **credentials.mutual)
    caller = Credentials(tmp_path / "caller", credentials.authority)
    caller.issue_expired()
    with pytest.raises(Unavailable):
        await embed(server, caller.identified())
    caller.issue()
    await embed(server, caller.identified())


async def test_new_connections_are_shown_the_new_certificate(stack: AsyncExitStack, credentials: Credentials) -> None:
    server = await started(stack, **credentials.server)
    first = await serial_number(server, credentials)
    assert await serial_number(server, credentials) == first
    credentials.issue()
    assert await serial_number(server, credentials) != first


def test_grpc_is_given_certificates_only_when_they_are_new(
    credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It builds its part anew for every answer, while other handshakes may be using the old one."""
    given: list[Callable[[], object]] = []
    monkeypatch.setattr(grpc, "dynamic_ssl_server_credentials", lambda _, fetch, **__: given.append(fetch))
    grpc_credentials(EmbeddingServerSettings(**credentials.server))
    (fetch,) = given
    assert [fetch(), fetch()] == [None, None]
    credentials.issue()
    assert fetch() is not None
    assert fetch() is None


async def test_a_volume_of_kubernetes_is_followed(
    stack: AsyncExitStack, credentials: Credentials, tmp_path: Path
) -> None:
    """There a link `..data` to a folder is swapped, and the files are links through it."""
    volume, other = tmp_path / "volume", Credentials(tmp_path / "new", credentials.authority)
    volume.mkdir()
    (volume / "..data").symlink_to(credentials.folder)
    for name in ("tls.crt", "tls.key"):
        (volume / name).symlink_to(Path("..data") / name)
    server = await started(stack, tls_certificate_file=volume / "tls.crt", tls_key_file=volume / "tls.key")
    first = await serial_number(server, credentials)
    (volume / "..new").symlink_to(other.folder)
    (volume / "..new").replace(volume / "..data")
    assert await serial_number(server, credentials) != first


def spoil(credentials: Credentials, damage: str) -> None:
    if damage == "half":
        content = credentials.certificate.read_bytes()
        credentials.certificate.write_bytes(content[: len(content) // 3])
    elif damage == "foreign key":
        trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(credentials.key)
    elif damage == "gone":
        credentials.key.unlink()
    else:
        credentials.key.write_text("not a key")


@pytest.mark.parametrize("damage", ["half", "foreign key", "gone", "text"])
async def test_what_cannot_be_used_changes_nothing_and_is_logged_once(
    stack: AsyncExitStack, credentials: Credentials, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    server = await started(stack, **credentials.server)
    first = await serial_number(server, credentials)
    content = credentials.certificate.read_bytes()
    key = credentials.key.read_bytes()
    spoil(credentials, damage)
    for _ in range(3):
        assert await serial_number(server, credentials) == first
    assert [record.levelname for record in caplog.records if "tls.key" in record.getMessage()] == ["ERROR"]
    credentials.certificate.write_bytes(content)
    credentials.key.write_bytes(key)
    assert await serial_number(server, credentials) == first
    credentials.issue()
    assert await serial_number(server, credentials) != first


@pytest.mark.parametrize("damage", ["foreign key", "gone", "text"])
async def test_a_server_does_not_start_with_what_it_cannot_use(credentials: Credentials, damage: str) -> None:
    spoil(credentials, damage)
    settings = EmbeddingServerSettings(**credentials.server)
    with pytest.raises(UnusableFiles, match=r"tls\.key"):
        await Server(build_application([HashEngine()], settings), settings).listen()


async def under_load(call: Callable[[], Awaitable[None]], change: Callable[[], None]) -> int:
    """Calls made by 16 callers, while `change` happens ten times: before, between and after, one call begins and ends.

    Whatever fails is raised.
    """
    made, over = 0, False

    async def caller() -> None:
        nonlocal made
        while not over:
            await call()
            made += 1

    async def whole_call() -> None:
        enough = made + CALLERS + 1  # so many at the most are under way
        while made < enough:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def changer() -> None:
        nonlocal over
        for _ in range(10):
            await whole_call()
            await asyncio.to_thread(change)
        await whole_call()
        over = True

    await asyncio.gather(*(caller() for _ in range(CALLERS)), changer())
    return made


async def test_no_call_fails_while_certificates_are_replaced(stack: AsyncExitStack, credentials: Credentials) -> None:
    """Half of the calls are made on connections of their own, and half of those that live on are told to renew."""
    server = await started(stack, **credentials.server, max_connection_age_seconds=0.5)
    seen: set[int] = set()
    async with AsyncEmbeddingClient([f"localhost:{server.port}"], credentials.options(retries=0)) as kept:

        async def call() -> None:
            await kept.embed(["a"], model=HASH)
            await embed(server, credentials.options())
            seen.add(await serial_number(server, credentials))

        made = await under_load(call, credentials.issue)
    assert made > CALLERS
    assert len(seen) == 11


async def test_the_port_for_probes_knows_neither_tls_nor_tokens_and_has_nothing_but_health(
    stack: AsyncExitStack, credentials: Credentials, channel_to: Callable
) -> None:
    server = await started(stack, **credentials.mutual, auth_tokens_file=credentials.tokens, health_port=0)
    channel = channel_to(f"127.0.0.1:{server.health_port}")
    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", "liveness", "embedscale.v1.EmbeddingService"):
        assert (await health.Check(health_pb2.HealthCheckRequest(service=name))).status == SERVING
    for path in ("/embedscale.v1.EmbeddingService/ListModels", "/grpc.reflection.v1alpha.ServerReflection/Nothing"):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(path)(b"")
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_a_taken_port_for_probes_is_said(stack: AsyncExitStack, credentials: Credentials) -> None:
    server = await started(stack)
    settings = EmbeddingServerSettings(health_port=server.port)
    second = Server(build_application([HashEngine()], settings), settings)
    with pytest.raises(AddressUnavailable, match=str(server.port)):
        await second.listen()
    await second.stop()


async def test_the_gateway_has_tls_whose_certificates_may_change(
    stack: AsyncExitStack, hasher: str, credentials: Credentials
) -> None:
    address = await gateway_of(stack, embedding_addresses=[hasher], **credentials.mutual)
    url = address.replace("http://127.0.0.1", "https://localhost") + "/v1/models"

    async def ask(context: ssl.SSLContext) -> tuple[int, str]:
        async with httpx.AsyncClient(verify=context) as client, client.stream("GET", url) as response:
            shown = response.extensions["network_stream"].get_extra_info("ssl_object").getpeercert()
            return response.status_code, shown["serialNumber"]

    context = ssl.create_default_context(cafile=credentials.ca)
    with pytest.raises(httpx.TransportError):
        await ask(context)  # no certificate of the caller's
    context.load_cert_chain(credentials.certificate, credentials.key)
    status, first = await ask(context)
    assert (status, await ask(context)) == (200, (200, first))
    credentials.issue()
    status, second = await ask(context)
    assert status == 200
    assert second != first
    credentials.key.write_text("not a key")
    assert await ask(context) == (200, second)
