"""`evalctl cache` against a real server and a real Redis."""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

from tests.conftest import RedisServer
from tests.contract.test_cache_faults import caching
from tests.fakes.hash_engine import HASH


async def evalctl(*arguments: str) -> tuple[int, str, str]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "embedscale.cli", "cache", *arguments, stdout=pipe, stderr=pipe
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_warm_stats_and_purge(own_redis: RedisServer, channel_to: Callable, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("one\ntwo\n\nthree\none\n", "utf-8")
    async with caching(own_redis.url, channel_to) as server:
        where = ("--embedding-address", server.address)
        code, out, err = await evalctl("warm", str(texts), "--model", HASH, "-o", "json", *where)
        assert (code, err) == (0, "")
        assert json.loads(out)["texts"] == 4
        await server.stored()
        code, out, _ = await evalctl("warm", str(texts), "--model", HASH, *where)
        assert out.startswith("4 texts: 4 were cached")
        code, out, _ = await evalctl("stats", "-o", "json", *where)
        (one,) = json.loads(out)["servers"]
        assert (one["redis_state"], one["misses"], one["redis_hits"]) == ("in use", 3, 3)
        assert [(space["model"], space["vectors"]) for space in one["spaces"]] == [(HASH, 3)]
        code, out, _ = await evalctl("stats", *where)
        assert code == 0
        assert HASH in out
        assert (await evalctl("purge", "--model", HASH, *where))[1] == "3 vectors were dropped\n"
        assert (await evalctl("purge", "--model", "nothing", *where))[0] == 2
        assert (await evalctl("purge", *where))[2] == "evalctl: give either --model or --fingerprint\n"
