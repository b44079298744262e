"""An event loop on a thread of its own, which clients without asyncio drive."""

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")

_READ_AT_ONCE = 64


class LoopThread:
    """Runs coroutines on an event loop in a daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="embedscale-client", daemon=True)
        self._thread.start()
        self._streams = set[AsyncIterator[Any]]()

    def run(self, coroutine: Coroutine[Any, Any, ResultT], source: "CallersTexts | None" = None) -> ResultT:
        """Wait for a coroutine; what it reads of `source` is read here, on the caller's thread."""
        if self.stopped:
            coroutine.close()
            raise RuntimeError("the client is closed")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            if source:
                future.add_done_callback(lambda _: source.finish())
                source.serve()
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, stream: AsyncIterator[ResultT], source: "CallersTexts | None" = None) -> Generator[ResultT]:
        """Iterate over an asynchronous stream; closing the generator closes the stream."""
        end = object()
        self._streams.add(stream)
        try:
            while (item := self.run(_next(stream, end), source)) is not end:
                try:
                    yield item
                except BaseException:
                    if not self.stopped:
                        self.run(_closed(stream))
                    raise
        finally:
            self._streams.discard(stream)

    def make(self, make: Callable[[], ResultT]) -> ResultT:
        """Make a client on the loop that it will live on."""
        try:
            return self.run(_made(make))
        except BaseException:
            self.stop()
            raise

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._loop.is_closed()

    def stop(self) -> None:
        """Cancel what still runs, and end the loop and its thread."""
        self.run(_cancel_others(self._streams))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class CallersTexts:
    """Texts that a coroutine on the loop reads, and the caller's thread fetches: a database cursor asks for its own."""

    def __init__(self, texts: Iterable[str]) -> None:
        if isinstance(texts, str):
            raise TypeError("texts is a str: give a list of texts")
        self._texts: Iterator[str] = iter(texts)
        self._wanted: queue.SimpleQueue[asyncio.Future[list[str]] | None] = queue.SimpleQueue()

    def serve(self) -> None:
        """Fetch what is asked for until `finish`."""
        while (chunk := self._wanted.get()) is not None:
            try:
                found, failure = list(islice(self._texts, _READ_AT_ONCE)), None
            except Exception as error:
                found, failure = [], error
            chunk.get_loop().call_soon_threadsafe(_settle, chunk, found, failure)

    def finish(self) -> None:
        """Nothing more is asked for now."""
        self._wanted.put(None)

    async def __aiter__(self) -> AsyncIterator[str]:
        while True:
            chunk: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
            self._wanted.put(chunk)
            texts = await chunk
            if not texts:
                return
            for text in texts:
                yield text


def _settle(chunk: "asyncio.Future[list[str]]", found: list[str], failure: Exception | None) -> None:
    if chunk.done():
        return
    if failure:
        chunk.set_exception(failure)
    else:
        chunk.set_result(found)


async def _next(stream: AsyncIterator[Any], end: object) -> Any:
    return await anext(stream, end)


async def _closed(stream: AsyncIterator[Any]) -> None:
    if isinstance(stream, AsyncGenerator):
        await stream.aclose()


async def _cancel_others(streams: set[AsyncIterator[Any]]) -> None:
    """Streams are closed from outside in: asyncio would close those inside them at the same time, and complain."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    for stream in tuple(streams):
        await _closed(stream)
    await asyncio.get_running_loop().shutdown_asyncgens()


async def _made(make: Callable[[], ResultT]) -> ResultT:
    return make()
