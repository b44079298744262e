"""Connects to any kind of Redis that a URL names. A command that fails is not repeated: the caller knows better."""

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError

from embedscale.servicekit.redis_url import RedisUrl

FAILURES = (RedisError, RedisClusterException, OSError, asyncio.IncompleteReadError)
"""What Redis being absent, slow, full or strange looks like; a cluster without nodes is no RedisError."""


def connect(url: RedisUrl, seconds: float) -> tuple[Any, Sequence[Any]]:
    """Make a client, not connected yet, and those of its sentinels; `seconds` limit connecting and each answer."""
    limits: dict[str, Any] = {
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
    }
    if url.kind == "single":
        return Redis.from_url(url.url, **limits), ()
    if url.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in url.hosts]
        return RedisCluster(startup_nodes=nodes, **limits, **url.options), ()
    connect: Any = Sentinel
    sentinel = connect(url.hosts, sentinel_kwargs=limits | url.sentinel_options, **limits, **url.options)
    return sentinel.master_for(url.service), sentinel.sentinels
