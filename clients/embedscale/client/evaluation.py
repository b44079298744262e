"""Running evaluations from Python."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING

from embedscale.client.channel import AsyncClosing, Channel
from embedscale.client.errors import Unavailable
from embedscale.client.options import DEFAULT, ClientOptions
from embedscale.v1 import evaluation_service_pb2 as pb
from embedscale.v1.evaluation_service_pb2_grpc import EvaluationServiceStub

if TYPE_CHECKING:
    from embedscale.v1.evaluation_service_pb2_grpc import EvaluationServiceAsyncStub

CALL_SECONDS = 30.0
COMPARE_SECONDS = 600.0
DATASET_SECONDS = 3600.0
RECONNECTS = 10
RECONNECT_SECONDS = 0.5
RECONNECT_MOST_SECONDS = 5.0

_SERVER_AWAY = ("", "DRAINING", "STARTING")


def _reconnect_pause(failures: int) -> float:
    return min(RECONNECT_SECONDS * 2.0 ** (failures - 1), RECONNECT_MOST_SECONDS)


class AsyncEvaluationClient(AsyncClosing):
    """Talks to an evaluator at `host:port`, or to all replicas behind `dns:///name:port` or `ipv4:host:port,host:port`.

    Any replica answers for every evaluation.
    """

    def __init__(self, address: str, options: ClientOptions = DEFAULT) -> None:
        self._channel = Channel(address, options)
        self._stub: EvaluationServiceAsyncStub = EvaluationServiceStub(self._channel.grpc)

    async def create(
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
        """Start an evaluation. A call that is repeated with the same `request_id` starts nothing new."""
        spec = pb.EvaluationSpec(
            model=model,
            dataset=dataset,
            cutoffs=cutoffs,
            dimensions=dimensions,
            truncation=f"TRUNCATION_{truncation.upper()}",
            indexes=indexes,
            sweep_dimensions=sweep_dimensions,
            sweep_encodings=[f"ENCODING_{encoding.upper()}" for encoding in sweep_encodings],
            ignore_identical_ids=ignore_identical_ids,
        )
        request = pb.CreateEvaluationRequest(spec=spec, request_id=request_id or uuid.uuid4().hex)
        response = await self._channel.call(self._stub.CreateEvaluation(request, timeout=CALL_SECONDS))
        return response.evaluation

    async def watch(self, name: str, after_sequence: int = 0) -> AsyncIterator[pb.EvaluationEvent]:
        """Yield events until the evaluation has ended; a lost connection is taken up where it broke."""
        failures = 0
        while True:
            request = pb.WatchEvaluationRequest(name=name, after_sequence=after_sequence)
            try:
                async for response in self._channel.stream(self._stub.WatchEvaluation(request)):
                    after_sequence, failures = response.event.sequence, 0
                    yield response.event
            except Unavailable:
                failures += 1
                if failures > RECONNECTS:
                    raise
                await asyncio.sleep(_reconnect_pause(failures))
            else:
                return

    async def get(self, name: str) -> pb.Evaluation:
        """Return an evaluation as it stands. Raises NotFound."""
        request = pb.GetEvaluationRequest(name=name)
        return (await self._channel.call(self._stub.GetEvaluation(request, timeout=CALL_SECONDS))).evaluation

    async def list(self, *, model: str = "", dataset: str = "", state: str = "") -> AsyncIterator[pb.Evaluation]:
        """Yield evaluations, the newest first: all, or those of a model, a data set, a state such as "running"."""
        wanted = f"EVALUATION_STATE_{state.upper()}" if state else None
        token = ""
        while True:
            request = pb.ListEvaluationsRequest(page_token=token, model=model, dataset=dataset, state=wanted)
            page = await self._channel.call(self._stub.ListEvaluations(request, timeout=CALL_SECONDS))
            for evaluation in page.evaluations:
                yield evaluation
            if not (token := page.next_page_token):
                return

    async def cancel(self, name: str) -> pb.Evaluation:
        """Stop an evaluation. Raises NotFound."""
        request = pb.CancelEvaluationRequest(name=name)
        return (await self._channel.call(self._stub.CancelEvaluation(request, timeout=CALL_SECONDS))).evaluation

    async def delete(self, name: str) -> None:
        """Forget an evaluation. Raises NotFound."""
        request = pb.DeleteEvaluationRequest(name=name)
        await self._channel.call(self._stub.DeleteEvaluation(request, timeout=CALL_SECONDS))

    async def query_results(self, name: str) -> AsyncIterator[pb.QueryResult]:
        """Yield what was retrieved for each query, in the data set's order."""
        token = ""
        while True:
            request = pb.ListQueryResultsRequest(name=name, page_token=token)
            page = await self._channel.call(self._stub.ListQueryResults(request, timeout=CALL_SECONDS))
            for result in page.results:
                yield result
            if not (token := page.next_page_token):
                return

    async def compare(
        self, names: Sequence[str], *, metric: str = "mrr", cutoff: int = 5, changed_queries: int = 10
    ) -> pb.CompareEvaluationsResponse:
        """Compare evaluations of one data set pair by pair, with the queries that changed most.

        Raises NotFound, FailedPrecondition unless all have succeeded, and InvalidArgument if they have no such metric.
        """
        request = pb.CompareEvaluationsRequest(
            names=names, metric=metric, cutoff=cutoff, changed_queries=changed_queries
        )
        return await self._channel.call(self._stub.CompareEvaluations(request, timeout=COMPARE_SECONDS))

    async def datasets(self) -> Sequence[pb.Dataset]:
        """List the data sets that the evaluator knows by name."""
        response = await self._channel.call(self._stub.ListDatasets(pb.ListDatasetsRequest(), timeout=CALL_SECONDS))
        return response.datasets

    async def dataset(self, uri: str) -> pb.Dataset:
        """Read, check and describe a data set. Raises NotFound, InvalidArgument or PermissionDenied."""
        request = pb.GetDatasetRequest(uri=uri)
        return (await self._channel.call(self._stub.GetDataset(request, timeout=DATASET_SECONDS))).dataset

    async def texts(
        self, uri: str, *, queries: Sequence[str] = (), documents: Sequence[str] = (), max_characters: int = 500
    ) -> pb.ListTextsResponse:
        """Beginnings of texts of a data set by id, at most 500 in all. Raises NotFound or InvalidArgument."""
        request = pb.ListTextsRequest(
            dataset=uri, query_ids=queries, document_ids=documents, max_characters=max_characters
        )
        return await self._channel.call(self._stub.ListTexts(request, timeout=DATASET_SECONDS))

    async def import_dataset(self, uri: str, *, lenient: bool = False, model: str = "") -> pb.ImportDatasetResponse:
        """Take a data set in, with an audit, which counts the tokens of `model` where one is named.

        Raises NotFound, PermissionDenied, and InvalidArgument for a set with faults unless `lenient` leaves them out.
        """
        request = pb.ImportDatasetRequest(uri=uri, lenient=lenient, model=model)
        return await self._channel.call(self._stub.ImportDataset(request, timeout=DATASET_SECONDS))

    async def queries(self, uri: str) -> AsyncIterator[tuple[str, str]]:
        """Yield id and text of each query of a data set, in the set's order. Raises NotFound or PermissionDenied."""
        async for rows in self._rows(uri, pb.DATASET_PART_QUERIES):
            for row in rows.texts:
                yield row.id, row.text

    async def documents(self, uri: str) -> AsyncIterator[tuple[str, str]]:
        """Yield id and text of each document of a data set, in the set's order. Raises NotFound or PermissionDenied."""
        async for rows in self._rows(uri, pb.DATASET_PART_DOCUMENTS):
            for row in rows.texts:
                yield row.id, row.text

    async def judgements(self, uri: str) -> AsyncIterator[tuple[str, dict[str, int]]]:
        """Yield for each query of a data set, in the set's order, its id and grades by document id."""
        async for rows in self._rows(uri, pb.DATASET_PART_JUDGEMENTS):
            for row in rows.judgements:
                yield row.query_id, {judged.document_id: judged.grade for judged in row.judgements}

    async def generate_dataset(
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
    ) -> AsyncIterator[pb.GenerateDatasetResponse]:
        """Make a data set with a chat model, and yield how far it is; the last message has it.

        Or with `questions` instead of a model: each has words of a document that answer it.
        `styles` are "factual", "paraphrase", "keywords" or "multi_chunk"; `spending_limit` is in US dollars. A server
        that goes away is asked again: it goes on where it was. Raises InvalidArgument, NotFound, PermissionDenied,
        FailedPrecondition at the spending limit or for a refused key, and ResourceExhausted or Unavailable where the
        chat model does not answer.
        """
        request = pb.GenerateDatasetRequest(
            documents=documents,
            language=language,
            model=model,
            questions_per_chunk=questions_per_chunk,
            styles=[f"QUESTION_STYLE_{style.upper()}" for style in styles],
            chunking=chunking,
            filters=filters,
            seed=seed,
            spending_limit=spending_limit,
            estimate_only=estimate_only,
            questions=[pb.WrittenQuestion(text=text, answer=answer) for text, answer in questions],
        )
        failures, furthest = 0, (0, 0)
        while True:
            try:
                async for response in self._channel.stream(self._stub.GenerateDataset(request)):
                    if (response.stage, response.done) > furthest:
                        furthest, failures = (response.stage, response.done), 0
                    yield response
            except Unavailable as error:
                failures += 1
                if failures > RECONNECTS or error.reason not in _SERVER_AWAY:
                    raise
                await asyncio.sleep(_reconnect_pause(failures))
            else:
                return

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    def _rows(self, uri: str, part: pb.DatasetPart) -> AsyncIterator[pb.ReadDatasetResponse]:
        request = pb.ReadDatasetRequest(dataset=uri, part=part)
        return self._channel.stream(self._stub.ReadDataset(request, timeout=DATASET_SECONDS))
