"""A host that is lost sends no farewell: its callers find out by themselves, and go on elsewhere."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from embedscale.client import AsyncEmbeddingClient, channel
from tests.fakes.hash_engine import HASH


class Line:
    """Passes connections on to a server; those that are open when it goes dead stay open, and carry nothing more."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._dead: set[asyncio.StreamWriter] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    def go_dead(self) -> None:
        self._dead |= self._open

    async def close(self) -> None:
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._open:
            writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._server.split(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        self._open |= {writer, far_writer}
        for pair in ((reader, far_writer), (far_reader, writer)):
            self._tasks.add(asyncio.create_task(self._carry(*pair)))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while received := await reader.read(2**16):
                if writer not in self._dead:
                    writer.write(received)
                    await writer.drain()


@pytest.fixture
async def line(hasher: str) -> AsyncIterator[Line]:
    opened = Line(hasher)
    yield opened
    await opened.close()


async def test_a_call_does_not_wait_for_a_host_that_is_lost(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "_ASK_AFTER_MS", 1000)
    monkeypatch.setattr(channel, "_ANSWER_WITHIN_MS", 1000)
    async with AsyncEmbeddingClient([await line.start()]) as client:
        expected = await client.embed(["a text"], model=HASH)
        line.go_dead()
        started = time.monotonic()
        again = await client.embed(["a text"], model=HASH, timeout=60)
    assert (again.vectors == expected.vectors).all()
    assert time.monotonic() - started < 20
