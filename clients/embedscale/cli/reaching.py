"""Whether an address can be reached: its name, its port, its certificate."""

import asyncio
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator

from embedscale.cli.checks import Check
from embedscale.client.options import ClientOptions

_SECONDS = 5.0
_MOST_PORT = 65_535
_DAY_SECONDS = 86_400
_SOON_DAYS = 14
_PLACE = re.compile(r"(?:(?:dns|ipv4|ipv6):(?://[^/]*/)?)?\[?(?P<host>[^\[\]/]+?)\]?:(?P<port>\d+)")


async def check_reachable(address: str, options: ClientOptions) -> AsyncIterator[Check]:
    """Check name, connection and encryption of an address; what rests on a failure is left out."""
    found = _PLACE.fullmatch(address.split(",")[0])
    if not found or int(found["port"]) > _MOST_PORT:
        yield Check("fail", f"{address} name", "not like host:port or dns:///name:port", "mend the address")
        return
    host, port = found["host"], int(found["port"])
    name = await _name(address, host, port)
    yield name
    if name.status == "fail":
        return
    connection = await _connection(address, host, port)
    yield connection
    if options.encrypted and connection.status == "ok":
        yield await _encryption(address, host, port, options)


async def _name(address: str, host: str, port: int) -> Check:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        return Check("fail", f"{address} name", "not a name that DNS takes", "mend the address")
    except OSError as error:
        return Check("fail", f"{address} name", str(error.strerror or error), f"look for {host} in DNS or /etc/hosts")
    places = sorted({str(one[4][0]) for one in found})
    return Check("ok", f"{address} name", ", ".join(places))


async def _connection(address: str, host: str, port: int) -> Check:
    started = time.perf_counter()
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        why = str(error.strerror or error) or f"no answer in {_SECONDS:.0f} s"
        return Check("fail", f"{address} TCP", why, "is the server up, the port right, a firewall between?")
    writer.close()
    return Check("ok", f"{address} TCP", f"connected in {(time.perf_counter() - started) * 1000:.0f} ms")


async def _encryption(address: str, host: str, port: int, options: ClientOptions) -> Check:
    name = f"{address} TLS"
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
        context.set_alpn_protocols(["h2"])
        if options.certificate_file:
            context.load_cert_chain(options.certificate_file, options.key_file)
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(
                host, port, ssl=context, server_hostname=options.server_name or host
            )
    except ssl.SSLCertVerificationError as error:
        return Check("fail", name, error.verify_message, "mend --ca-file or --server-name of the context")
    except (ssl.SSLError, OSError) as error:
        return Check("fail", name, str(error), "does the server speak TLS, and are the context's files right?")
    certificate = writer.get_extra_info("peercert")
    writer.close()
    days = (ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) / _DAY_SECONDS
    told = f"certificate is valid for {days:.0f} days"
    return Check("ok", name, told) if days > _SOON_DAYS else Check("warn", name, told, "renew the certificate")
