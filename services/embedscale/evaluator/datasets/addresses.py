"""Keeps the fetching of data sets off this network's own machines: by address, not by name."""

import socket
from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpx

from embedscale.core.errors import DatasetForbidden
from embedscale.evaluator.datasets.location import ANY_HOST

Address = IPv4Address | IPv6Address

_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_IPV4_BITS = 2**32 - 1


class PublicAddresses(httpx.BaseTransport):
    """Connects to the very addresses that were found to be public.

    A name is resolved here, once for each request, so that it cannot mean another machine a moment later; each redirect
    is a request of its own. Hosts of `private` may lead anywhere. Raises DatasetForbidden.
    """

    def __init__(self, private: Collection[str]) -> None:
        self._private = private
        self._transport = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.BaseTransport`; the first address that can be connected to is taken."""
        failure: httpx.TransportError = httpx.ConnectError("the name has no address")
        for address in self._addresses(request.url):
            try:
                return self._transport.handle_request(_to(address, request))
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
        raise failure

    def close(self) -> None:
        """See `httpx.BaseTransport`."""
        self._transport.close()

    def _addresses(self, url: httpx.URL) -> Sequence[Address]:
        found = resolved(url.raw_host.decode("ascii"), url.port or {"https": 443}.get(url.scheme, 80))
        allowed = ANY_HOST in self._private or url.host in self._private
        if not allowed and not all(is_public(address) for address in found):
            message = f"{url.host} leads to a private address, and is not among the evaluator's --dataset-private-hosts"
            raise DatasetForbidden(message, field="dataset")
        return found


def resolved(host: str, port: int) -> Sequence[Address]:
    """Addresses of a name, or of an address however it is written. Raises httpx.ConnectError."""
    try:
        entries = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise httpx.ConnectError("the name cannot be resolved") from None
    return list(dict.fromkeys(ip_address(str(entry[4][0])) for entry in entries))


def is_public(address: Address) -> bool:
    """Whether an address, and the IPv4 address that it may stand for, belongs to the public internet."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in _NAT64:
            inner = IPv4Address(int(address) & _IPV4_BITS)
        if inner:
            return is_public(inner)
        if address not in _UNICAST:
            return False
    return address.is_global and not address.is_multicast


def literal(host: str) -> bool:
    """Whether a host is written as an address."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _to(address: Address, request: httpx.Request) -> httpx.Request:
    """The same request to an address; its header and its certificate are still those of the name."""
    extensions = request.extensions | {"sni_hostname": request.url.raw_host.decode("ascii").strip("[]")}
    url = request.url.copy_with(host=str(address))
    return httpx.Request(request.method, url, headers=request.headers, stream=request.stream, extensions=extensions)
