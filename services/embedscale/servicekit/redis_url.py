"""The one setting that says where Redis is.

redis://[[user]:password@]host[:port][/db]                        one server; rediss:// for TLS
unix://[[user]:password@]/path/to/socket[?db=0]                   one server on this machine
redis+sentinel://[[user]:password@]host:port,.../service[/db]     the master that sentinels name; rediss+ for TLS
redis+cluster://[[user]:password@]host:port,...                   a cluster found through any of these; rediss+ for TLS
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from redis.asyncio.connection import parse_url

OPTIONS = {"db", "client_name", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname",
           "sentinel_username", "sentinel_password"}  # fmt: skip
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_PARTS = re.compile(
    r"(?P<scheme>rediss?|unix|rediss?\+sentinel|rediss?\+cluster)://"
    r"(?P<login>[^@/?]*@)?(?P<hosts>[^/?]*)(?P<path>/[^?]*)?(\?(?P<query>.*))?"
)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:\s,]+)(:(?P<port>\d{1,5}))?")
_SHAPES = "redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://"


@dataclass(frozen=True)
class RedisUrl:
    """A URL taken apart; `options` are arguments for redis-py's connections."""

    kind: str
    """"single", "sentinel" or "cluster"."""
    url: str
    """As given."""
    hosts: tuple[tuple[str, int], ...] = ()
    """Sentinels, or some nodes of the cluster."""
    service: str = ""
    """What the sentinels call the master."""
    options: dict[str, Any] = field(default_factory=dict)
    sentinel_options: dict[str, Any] = field(default_factory=dict)


def parse_redis_url(url: str) -> RedisUrl:
    """Take a URL apart. Raises ValueError, which says what is wrong and repeats no password."""
    parts = _PARTS.fullmatch(url)
    if not parts:
        raise ValueError(f"is not a URL that begins with {_SHAPES}")
    _check_query(parts["query"] or "")
    scheme, _, kind = parts["scheme"].partition("+")
    if kind:
        return _several(url, parts, scheme, kind)
    if scheme == "unix" and not parts["path"]:
        raise ValueError("names no socket: unix:///path/to/socket")
    if scheme != "unix":
        _hosts(parts["hosts"], most=1)
        _database((parts["path"] or "").removeprefix("/"))
    return RedisUrl("single", url, options=dict(_parsed(url)))


def _several(url: str, parts: re.Match[str], scheme: str, kind: str) -> RedisUrl:
    service, _, database = (parts["path"] or "").removeprefix("/").partition("/")
    if kind == "sentinel" and not service:
        raise ValueError("names no service: redis+sentinel://host:port,host:port/service/db")
    if kind == "cluster" and (service or database):
        raise ValueError("has a path, and a cluster has neither service nor databases: redis+cluster://host:port,...")
    hosts = _hosts(parts["hosts"], default=26379 if kind == "sentinel" else 6379)
    query = f"?{parts['query']}" if parts["query"] else ""
    options = dict(_parsed(f"{scheme}://{parts['login'] or ''}nowhere/{_database(database)}{query}"))
    for name in ("host", "port", "connection_class"):
        options.pop(name, None)
    sentinel = {name.removeprefix("sentinel_"): options.pop(name) for name in list(options) if "sentinel_" in name}
    tls = {"ssl": True} if scheme == "rediss" else {}
    carried = {name: value for name, value in options.items() if name.startswith("ssl_")}
    return RedisUrl(kind, url, hosts, service, options | tls, sentinel | tls | carried)


def _hosts(text: str, *, default: int = 6379, most: int | None = None) -> tuple[tuple[str, int], ...]:
    matches = [_HOST.fullmatch(host) for host in text.split(",")]
    if not all(matches) or (most and len(matches) > most):
        raise ValueError(
            "has no valid host:port after ://" if most else "has no valid list host:port,host:port after ://"
        )
    ports = [int(match["port"] or default) for match in matches if match]
    if not all(0 < port < 2**16 for port in ports):
        raise ValueError("has a port that is not between 1 and 65535")
    return tuple((match[1].strip("[]"), port) for match, port in zip(matches, ports, strict=True) if match)


def _database(text: str) -> str:
    if text and not text.isdecimal():
        raise ValueError("has a database that is not a number")
    return text


def _check_query(query: str) -> None:
    given = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := sorted(set(given) - OPTIONS):
        raise ValueError(f"has unknown options: {', '.join(unknown)}; known: {', '.join(sorted(OPTIONS))}")
    for name in _FILES:
        if name in given and not Path(given[name]).is_file():
            raise ValueError(f"names in {name} a file that does not exist: {given[name]}")


def _parsed(url: str) -> Any:
    try:
        return parse_url(url)
    except ValueError:
        raise ValueError("has an option whose value is not understood") from None
