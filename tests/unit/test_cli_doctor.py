"""What `evalctl doctor` says of names, ports, certificates, versions and clocks."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from embedscale.cli.checks import Check, check_clock, check_services, check_version
from embedscale.cli.reaching import check_reachable
from embedscale.client.options import ClientOptions
from tests.conftest import free_port


@asynccontextmanager
async def listening(context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server that accepts connections and says nothing."""

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(hold, "127.0.0.1", 0, ssl=context) as server:
        yield f"localhost:{server.sockets[0].getsockname()[1]}"


async def reached(address: str, options: ClientOptions | None = None) -> dict[str, Check]:
    checks = [check async for check in check_reachable(address, options or ClientOptions())]
    return {check.name.rpartition(" ")[2]: check for check in checks}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return str(tmp_path / "ca.pem")


def server_context(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_an_address_that_accepts_is_reached() -> None:
    async with listening() as address:
        found = await reached(f"dns:///{address}")
    assert {name: check.status for name, check in found.items()} == {"name": "ok", "TCP": "ok"}
    assert "127.0.0.1" in found["name"].found


async def test_a_closed_port_fails_with_advice() -> None:
    found = await reached(f"127.0.0.1:{free_port()}")
    assert (found["name"].status, found["TCP"].status) == ("ok", "fail")
    assert "port" in found["TCP"].advice


@pytest.mark.parametrize("address", ["name.invalid:1", "dns:///name.invalid:1"])
async def test_an_unknown_name_ends_the_checks(address: str) -> None:
    found = await reached(address)
    assert list(found) == ["name"]
    assert (found["name"].status, "name.invalid" in found["name"].advice) == ("fail", True)


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:99999", "a..b:50051"])
async def test_what_is_no_address_is_told(address: str) -> None:
    assert (await reached(address))["name"].advice == "mend the address"


async def test_a_token_in_plain_text_is_told() -> None:
    found = [check async for check in check_services("embedding", "example.com:50051", ClientOptions(token="secret"))]
    assert [(check.status, "needs TLS" in check.found) for check in found] == [("fail", True)]


async def test_a_good_certificate_passes(authority: trustme.CA, ca_file: str) -> None:
    async with listening(server_context(authority, "localhost")) as address:
        found = await reached(address, ClientOptions(ca_file=ca_file))
    assert found["TLS"].status == "ok"
    assert "valid for" in found["TLS"].found


async def test_a_foreign_certificate_or_name_fails(authority: trustme.CA, ca_file: str) -> None:
    async with listening(server_context(authority, "elsewhere.example")) as address:
        wrong_name = await reached(address, ClientOptions(ca_file=ca_file))
        mended = await reached(address, ClientOptions(ca_file=ca_file, server_name="elsewhere.example"))
        foreign = await reached(address, ClientOptions(tls=True, server_name="elsewhere.example"))
    assert wrong_name["TLS"].status == foreign["TLS"].status == "fail"
    assert mended["TLS"].status == "ok"
    assert "--server-name" in wrong_name["TLS"].advice


async def test_a_server_without_tls_fails() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 plain text\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        found = await reached(address, ClientOptions(tls=True))
    assert (found["TCP"].status, found["TLS"].status) == ("ok", "fail")


@pytest.mark.parametrize(
    ("ahead", "round_trip", "status"), [(0.5, 0.1, "ok"), (-0.5, 0.1, "ok"), (2.5, 0.1, "warn"), (2.5, 2.0, "ok")]
)
def test_a_clock_is_judged_as_far_as_the_call_can_tell(ahead: float, round_trip: float, status: str) -> None:
    assert check_clock("a", ahead, round_trip).status == status


def test_versions_are_compared() -> None:
    assert check_version("a", "").status == check_version("a", "0.0.1").status == "warn"
    assert "0.0.1" in check_version("a", "0.0.1").found
