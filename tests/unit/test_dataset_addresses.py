"""Data sets are fetched from public addresses alone: after names are resolved, at each redirect, on the wire."""

import gzip
import http.server
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from embedscale.core.errors import DatasetForbidden, DatasetInvalid, DatasetNotFound
from embedscale.evaluator.datasets.addresses import is_public
from embedscale.evaluator.datasets.cloud import Buckets
from embedscale.evaluator.datasets.location import Fetched, locate
from embedscale.evaluator.datasets.website import Website
from tests.credentials import Credentials

PUBLIC = "93.184.215.14"
NAME = "data.example"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254",
        "224.0.0.1", "239.1.1.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "::", "::1", "fe80::1", "fe80::1%1",
        "fc00::1", "fec0::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:5601:5601", "2001:db8::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "::ffff:8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808"])
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_is_judged_by_itself(address: ipaddress.IPv4Address) -> None:
    for outer in (f"::ffff:{address}", f"64:ff9b::{address}"):
        assert is_public(ipaddress.ip_address(outer)) == is_public(address)


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "gzip, gzip": lambda body: gzip.compress(gzip.compress(body)),
}


class Site(http.server.BaseHTTPRequestHandler):
    """Answers with the name that it was asked by, or redirects."""

    asked: list[tuple[str, str]]

    def do_GET(self) -> None:
        self.asked.append((str(self.headers["Host"]), self.path))
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = b"{}"
        self.send_response(200)
        if self.path.startswith("/as/"):
            encoding = unquote(self.path.removeprefix("/as/"))
            body = PACKED[encoding](body)
            self.send_header("Content-Encoding", encoding)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    """Port of a website on this machine."""
    Site.asked = []
    yield from _served(None)


def _served(context: ssl.SSLContext | None) -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


Names = dict[str, list[str]]


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[[Names], list[str]]:
    """Makes names mean addresses, the next one each time; returns what is looked up."""
    real = socket.getaddrinfo

    def use(names: Names) -> list[str]:
        looked_up: list[str] = []

        def getaddrinfo(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
            looked_up.append(host)
            if host == PUBLIC:
                raise OSError("no tests on the internet")
            meant = names.get(host)
            return real(meant.pop(0) if meant else host, port, *arguments, **options)

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        return looked_up

    return use


def fetch(folder: Path, uri: str, hosts: list[str], private: list[str] | None = None) -> Fetched | None:
    return Website(hosts, private or [], 10**6).fetch(locate(uri), "", folder / "draft")


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f000001", "127.1", "[::ffff:127.0.0.1]", "0"])
def test_no_way_of_writing_this_machine_gets_through(tmp_path: Path, port: int, host: str) -> None:
    with pytest.raises(DatasetForbidden, match="private"):
        fetch(tmp_path, f"http://{host}:{port}/x.json", ["*"])
    assert Site.asked == []


def test_gzip_is_unpacked(tmp_path: Path, port: int) -> None:
    fetched = fetch(tmp_path, f"http://127.0.0.1:{port}/as/gzip", ["127.0.0.1"])
    assert fetched.path.read_bytes() == b"{}"


@pytest.mark.parametrize("encoding", ["zstd", "gzip, gzip"])
def test_what_may_become_gigabytes_at_once_is_not_unpacked(tmp_path: Path, port: int, encoding: str) -> None:
    with pytest.raises(DatasetInvalid, match=f"the encoding '{encoding}', and only gzip"):
        fetch(tmp_path, f"http://127.0.0.1:{port}/as/{quote(encoding)}", ["127.0.0.1"])


def test_a_name_that_leads_to_a_private_address_is_refused(
    tmp_path: Path, port: int, resolve: Callable[[Names], list[str]]
) -> None:
    resolve({NAME: ["127.0.0.1"]})
    with pytest.raises(DatasetForbidden, match=NAME):
        fetch(tmp_path, f"http://{NAME}:{port}/x.json", [NAME])
    assert Site.asked == []


def test_private_hosts_and_listed_addresses_are_allowed(
    tmp_path: Path, port: int, resolve: Callable[[Names], list[str]]
) -> None:
    resolve({NAME: ["127.0.0.1"] * 2})
    assert fetch(tmp_path, f"http://{NAME}:{port}/x.json", [NAME], [NAME])
    assert fetch(tmp_path, f"http://{NAME}:{port}/x.json", ["*"], ["*"])
    assert fetch(tmp_path, f"http://127.0.0.1:{port}/x.json", ["127.0.0.1"])
    assert [host for host, _ in Site.asked] == [f"{NAME}:{port}"] * 2 + [f"127.0.0.1:{port}"]
    with pytest.raises(DatasetForbidden, match="not a host"):  # a private host must be an allowed one too
        fetch(tmp_path, f"http://{NAME}:{port}/x.json", [], [NAME])


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest/meta-data", "http://localhost:{port}/x.json"])
def test_a_redirect_to_a_private_address_is_refused(tmp_path: Path, port: int, target: str) -> None:
    with pytest.raises(DatasetForbidden, match="private"):
        fetch(tmp_path, f"http://127.0.0.1:{port}/to/{target.format(port=port)}", ["*"], ["127.0.0.1"])
    assert len(Site.asked) == 1


def test_a_name_that_changes_its_meaning_gains_nothing(
    tmp_path: Path, port: int, resolve: Callable[[Names], list[str]]
) -> None:
    """It is public when it is checked, and this machine when it would be connected to."""
    looked_up = resolve({NAME: [PUBLIC_ALIAS, "127.0.0.1"]})
    with pytest.raises(DatasetNotFound, match="ConnectError"):
        fetch(tmp_path, f"http://{NAME}:{port}/x.json", [NAME])
    assert looked_up == [NAME, PUBLIC]
    assert Site.asked == []


PUBLIC_ALIAS = str(int(ipaddress.IPv4Address(PUBLIC)))
"""The same address as a number, which the resolver of these tests does not refuse."""


def test_certificates_are_those_of_the_name(
    tmp_path: Path, resolve: Callable[[Names], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = Credentials(tmp_path / "secret")
    credentials.issue(NAME)
    monkeypatch.setenv("SSL_CERT_FILE", str(credentials.ca))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(credentials.certificate, credentials.key)
    resolve({NAME: ["127.0.0.1"], "other.example": ["127.0.0.1"]})
    Site.asked = []
    for served in _served(context):
        assert fetch(tmp_path, f"https://{NAME}:{served}/x.json", ["*"], ["*"])
        with pytest.raises(DatasetNotFound, match="ConnectError"):
            fetch(tmp_path, f"https://other.example:{served}/x.json", ["*"], ["*"])
    assert [host.partition(":")[0] for host, _ in Site.asked] == [NAME]


def test_a_bucket_cannot_smuggle_a_second_uri(tmp_path: Path) -> None:
    for uri in ("s3://bucket/set::http://169.254.169.254/", "s3://bucket/a::file:///etc/passwd"):
        with pytest.raises(DatasetInvalid, match="::"):
            Buckets(["bucket"], 10**6).fetch(locate(uri), "", tmp_path / "draft")
