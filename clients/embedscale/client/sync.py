"""The same clients without asyncio: each keeps an event loop on a thread of its own."""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

from embedscale.client.cache import AsyncCacheClient
from embedscale.client.embedding import TIMEOUT_SECONDS, AsyncEmbeddingClient, Encoding, InputType, Truncation
from embedscale.client.evaluation import AsyncEvaluationClient
from embedscale.client.homes import LIST_SECONDS
from embedscale.client.loop_thread import CallersTexts, LoopThread
from embedscale.client.options import DEFAULT, ClientOptions
from embedscale.client.results import EmbedResult
from embedscale.v1 import cache_service_pb2 as cache_pb
from embedscale.v1 import embedding_service_pb2 as embedding_pb
from embedscale.v1 import evaluation_service_pb2 as pb


class _Client:
    """A client on a loop thread, closed by `close` or by leaving its `with` block."""

    _client: AsyncEmbeddingClient | AsyncEvaluationClient | AsyncCacheClient
    _thread: LoopThread

    def close(self) -> None:
        """Close all connections, and cancel what other threads wait for."""
        if self._thread.stopped:
            return
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

    def __init__(self, addresses: Sequence[str], options: ClientOptions = DEFAULT) -> None:
        self._thread = LoopThread()
        self._client = self._thread.make(lambda: AsyncEmbeddingClient(addresses, options))

    def embed(
        self,
        texts: Iterable[str],
        *,
        model: str,
        input_type: InputType = "unspecified",
        dimensions: int = 0,
        truncation: Truncation = "error",
        encoding: Encoding = "float32",
        timeout: float = TIMEOUT_SECONDS,
    ) -> EmbedResult:
        """See `AsyncEmbeddingClient.embed`."""
        source = CallersTexts(texts)
        return self._thread.run(
            self._client.embed(
                source,
                model=model,
                input_type=input_type,
                dimensions=dimensions,
                truncation=truncation,
                encoding=encoding,
                timeout=timeout,
            ),
            source,
        )

    def embed_iter(
        self,
        texts: Iterable[str],
        *,
        model: str,
        input_type: InputType = "unspecified",
        dimensions: int = 0,
        truncation: Truncation = "error",
        encoding: Encoding = "float32",
        timeout: float = TIMEOUT_SECONDS,
    ) -> Generator[EmbedResult]:
        """See `AsyncEmbeddingClient.embed_iter`; texts are read on the caller's thread, while it waits for a block."""
        source = CallersTexts(texts)
        stream = self._client.embed_iter(
            source,
            model=model,
            input_type=input_type,
            dimensions=dimensions,
            truncation=truncation,
            encoding=encoding,
            timeout=timeout,
        )
        return self._thread.iterate(stream, source)

    def count_tokens(
        self,
        texts: Iterable[str],
        *,
        model: str,
        input_type: InputType = "unspecified",
        timeout: float = TIMEOUT_SECONDS,
    ) -> list[int]:
        """See `AsyncEmbeddingClient.count_tokens`."""
        source = CallersTexts(texts)
        counting = self._client.count_tokens(source, model=model, input_type=input_type, timeout=timeout)
        return self._thread.run(counting, source)

    def models(self) -> list[embedding_pb.Model]:
        """See `AsyncEmbeddingClient.models`."""
        return self._thread.run(self._client.models())

    def available_models(self, timeout: float = LIST_SECONDS) -> list[embedding_pb.Model]:
        """See `AsyncEmbeddingClient.available_models`."""
        return self._thread.run(self._client.available_models(timeout))

    def model(self, name: str) -> embedding_pb.Model:
        """See `AsyncEmbeddingClient.model`."""
        return self._thread.run(self._client.model(name))


class EvaluationClient(_Client):
    """See `AsyncEvaluationClient`."""

    _client: AsyncEvaluationClient

    def __init__(self, address: str, options: ClientOptions = DEFAULT) -> None:
        self._thread = LoopThread()
        self._client = self._thread.make(lambda: AsyncEvaluationClient(address, options))

    def create(
        self,
        model: str,
        dataset: str,
        *,
        cutoffs: Sequence[int] = (5,),
        dimensions: int = 0,
        truncation: str = "end",
        indexes: Sequence[pb.IndexSpec] = (),
        sweep_dimensions: Sequence[int] = (),
        sweep_encodings: Sequence[str] = (),
        ignore_identical_ids: bool = False,
        request_id: str | None = None,
    ) -> pb.Evaluation:
        """See `AsyncEvaluationClient.create`."""
        return self._thread.run(
            self._client.create(
                model,
                dataset,
                cutoffs=cutoffs,
                dimensions=dimensions,
                truncation=truncation,
                indexes=indexes,
                sweep_dimensions=sweep_dimensions,
                sweep_encodings=sweep_encodings,
                ignore_identical_ids=ignore_identical_ids,
                request_id=request_id,
            )
        )

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

    def compare(
        self, names: Sequence[str], *, metric: str = "mrr", cutoff: int = 5, changed_queries: int = 10
    ) -> pb.CompareEvaluationsResponse:
        """See `AsyncEvaluationClient.compare`."""
        return self._thread.run(
            self._client.compare(names, metric=metric, cutoff=cutoff, changed_queries=changed_queries)
        )

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

    def queries(self, uri: str) -> Iterator[tuple[str, str]]:
        """See `AsyncEvaluationClient.queries`."""
        return self._thread.iterate(self._client.queries(uri))

    def documents(self, uri: str) -> Iterator[tuple[str, str]]:
        """See `AsyncEvaluationClient.documents`."""
        return self._thread.iterate(self._client.documents(uri))

    def judgements(self, uri: str) -> Iterator[tuple[str, dict[str, int]]]:
        """See `AsyncEvaluationClient.judgements`."""
        return self._thread.iterate(self._client.judgements(uri))

    def generate_dataset(
        self,
        documents: Sequence[str],
        *,
        language: str,
        model: str = "",
        questions: Iterable[tuple[str, str]] = (),
        questions_per_chunk: int = 0,
        styles: Sequence[str] = (),
        chunking: pb.Chunking | None = None,
        filters: pb.QuestionFilters | None = None,
        seed: int = 0,
        spending_limit: float | None = None,
        estimate_only: bool = False,
    ) -> Iterator[pb.GenerateDatasetResponse]:
        """See `AsyncEvaluationClient.generate_dataset`."""
        return self._thread.iterate(
            self._client.generate_dataset(
                documents,
                language=language,
                model=model,
                questions=questions,
                questions_per_chunk=questions_per_chunk,
                styles=styles,
                chunking=chunking,
                filters=filters,
                seed=seed,
                spending_limit=spending_limit,
                estimate_only=estimate_only,
            )
        )


class CacheClient(_Client):
    """See `AsyncCacheClient`."""

    _client: AsyncCacheClient

    def __init__(self, addresses: Sequence[str], options: ClientOptions = DEFAULT) -> None:
        self._thread = LoopThread()
        self._client = self._thread.make(lambda: AsyncCacheClient(addresses, options))

    def stats(self) -> Mapping[str, cache_pb.GetCacheStatsResponse]:
        """See `AsyncCacheClient.stats`."""
        return self._thread.run(self._client.stats())

    def purge(self, *, model: str = "", fingerprint: str = "") -> int:
        """See `AsyncCacheClient.purge`."""
        return self._thread.run(self._client.purge(model=model, fingerprint=fingerprint))
