"""The same clients without asyncio: each keeps an event loop on a thread of its own."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from embedscale.client.embedding import AsyncEmbeddingClient, EmbedResult, InputType, Truncation
from embedscale.client.evaluation import AsyncEvaluationClient
from embedscale.v1 import embedding_service_pb2 as embedding_pb
from embedscale.v1 import evaluation_service_pb2 as pb

ResultT = TypeVar("ResultT")


class _LoopThread:
    """Runs coroutines on an event loop in a daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="embedscale-client", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
        if self._loop.is_closed():
            coroutine.close()
            raise RuntimeError("the client is closed")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, stream: AsyncIterator[ResultT]) -> Iterator[ResultT]:
        end = object()
        try:
            while (item := self.run(_next(stream, end))) is not end:
                yield item
        finally:
            self.run(_closed(stream))

    def make(self, kind: type[ResultT], *arguments: object) -> ResultT:
        try:
            return self.run(_made(kind, *arguments))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _next(stream: AsyncIterator[Any], end: object) -> Any:
    return await anext(stream, end)


async def _closed(stream: AsyncIterator[Any]) -> None:
    if isinstance(stream, AsyncGenerator):
        await stream.aclose()


class _Client:
    """A client on a loop thread, closed by `close` or by leaving its `with` block."""

    _client: AsyncEmbeddingClient | AsyncEvaluationClient
    _thread: _LoopThread

    def close(self) -> None:
        """Close all connections."""
        try:
            self._thread.run(self._client.close())
        finally:
            self._thread.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class EmbeddingClient(_Client):
    """See `AsyncEmbeddingClient`."""

    _client: AsyncEmbeddingClient

    def __init__(self, addresses: Sequence[str]) -> None:
        self._thread = _LoopThread()
        self._client = self._thread.make(AsyncEmbeddingClient, addresses)

    def embed(
        self,
        texts: Iterable[str],
        *,
        model: str,
        input_type: InputType = "unspecified",
        dimensions: int = 0,
        truncation: Truncation = "error",
        timeout: float = 600.0,
    ) -> EmbedResult:
        """See `AsyncEmbeddingClient.embed`."""
        return self._thread.run(
            self._client.embed(
                texts,
                model=model,
                input_type=input_type,
                dimensions=dimensions,
                truncation=truncation,
                timeout=timeout,
            )
        )

    def count_tokens(self, texts: Iterable[str], *, model: str, input_type: InputType = "unspecified") -> list[int]:
        """See `AsyncEmbeddingClient.count_tokens`."""
        return self._thread.run(self._client.count_tokens(texts, model=model, input_type=input_type))

    def models(self) -> list[embedding_pb.Model]:
        """See `AsyncEmbeddingClient.models`."""
        return self._thread.run(self._client.models())

    def model(self, name: str) -> embedding_pb.Model:
        """See `AsyncEmbeddingClient.model`."""
        return self._thread.run(self._client.model(name))


class EvaluationClient(_Client):
    """See `AsyncEvaluationClient`."""

    _client: AsyncEvaluationClient

    def __init__(self, address: str) -> None:
        self._thread = _LoopThread()
        self._client = self._thread.make(AsyncEvaluationClient, address)

    def create(self, model: str, dataset: str, *, cutoffs: Sequence[int] = (5,), dimensions: int = 0) -> pb.Evaluation:
        """See `AsyncEvaluationClient.create`."""
        return self._thread.run(self._client.create(model, dataset, cutoffs=cutoffs, dimensions=dimensions))

    def watch(self, name: str, after_sequence: int = 0) -> Iterator[pb.EvaluationEvent]:
        """See `AsyncEvaluationClient.watch`."""
        return self._thread.iterate(self._client.watch(name, after_sequence))

    def get(self, name: str) -> pb.Evaluation:
        """See `AsyncEvaluationClient.get`."""
        return self._thread.run(self._client.get(name))

    def list(self, *, model: str = "", dataset: str = "", state: str = "") -> Iterator[pb.Evaluation]:
        """See `AsyncEvaluationClient.list`."""
        return self._thread.iterate(self._client.list(model=model, dataset=dataset, state=state))

    def query_results(self, name: str) -> Iterator[pb.QueryResult]:
        """See `AsyncEvaluationClient.query_results`."""
        return self._thread.iterate(self._client.query_results(name))

    def cancel(self, name: str) -> pb.Evaluation:
        """See `AsyncEvaluationClient.cancel`."""
        return self._thread.run(self._client.cancel(name))

    def delete(self, name: str) -> None:
        """See `AsyncEvaluationClient.delete`."""
        self._thread.run(self._client.delete(name))

    def datasets(self) -> Sequence[pb.Dataset]:
        """See `AsyncEvaluationClient.datasets`."""
        return self._thread.run(self._client.datasets())

    def dataset(self, uri: str) -> pb.Dataset:
        """See `AsyncEvaluationClient.dataset`."""
        return self._thread.run(self._client.dataset(uri))

    def compare(self, names: Sequence[str], *, metric: str = "mrr", cutoff: int = 5) -> pb.CompareEvaluationsResponse:
        """See `AsyncEvaluationClient.compare`."""
        return self._thread.run(self._client.compare(names, metric=metric, cutoff=cutoff))

    def texts(
        self, uri: str, *, queries: Sequence[str] = (), documents: Sequence[str] = (), max_characters: int = 500
    ) -> pb.ListTextsResponse:
        """See `AsyncEvaluationClient.texts`."""
        return self._thread.run(
            self._client.texts(uri, queries=queries, documents=documents, max_characters=max_characters)
        )

    def import_dataset(self, uri: str, *, lenient: bool = False, model: str = "") -> pb.ImportDatasetResponse:
        """See `AsyncEvaluationClient.import_dataset`."""
        return self._thread.run(self._client.import_dataset(uri, lenient=lenient, model=model))


async def _made(kind: type[ResultT], *arguments: object) -> ResultT:
    """Construct on the loop that the client will live on."""
    return kind(*arguments)
