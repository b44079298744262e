"""EvaluationService on the wire: convert, await, convert."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from embedscale.core.errors import InvalidField
from embedscale.core.ports import DatasetSource
from embedscale.evaluator.convert import (
    MAX_PAGE_BYTES,
    MAX_REQUEST_ID,
    fitting,
    next_token,
    to_caller,
    to_evaluation,
    to_event,
    to_filter,
    to_id,
    to_listing,
    to_page,
    to_query_result,
    to_spec,
)
from embedscale.evaluator.convert_comparison import to_comparison, to_comparison_response
from embedscale.evaluator.convert_dataset import (
    to_dataset,
    to_excerpts,
    to_import_response,
    to_rows,
    to_texts_response,
)
from embedscale.evaluator.convert_generation import to_generation, to_generation_response
from embedscale.evaluator.generation.generator import DatasetGenerator
from embedscale.evaluator.imports import DatasetImports
from embedscale.evaluator.jobs import EvaluationJobs
from embedscale.v1 import evaluation_service_pb2 as pb
from embedscale.v1 import evaluation_service_pb2_grpc as pb_grpc

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["EvaluationService"].full_name

Context = grpc.aio.ServicerContext[Any, Any]


class EvaluationServicer(pb_grpc.EvaluationServiceServicer):
    """See `evaluation_service.proto`."""

    def __init__(
        self, jobs: EvaluationJobs, datasets: DatasetSource, imports: DatasetImports, generator: DatasetGenerator
    ) -> None:
        self._jobs = jobs
        self._datasets = datasets
        self._imports = imports
        self._generator = generator

    async def CreateEvaluation(
        self, request: pb.CreateEvaluationRequest, context: Context
    ) -> pb.CreateEvaluationResponse:
        """Start an evaluation."""
        if len(request.request_id) > MAX_REQUEST_ID:
            raise InvalidField(f"request_id has more than {MAX_REQUEST_ID} characters", field="request_id")
        evaluation = await self._jobs.create(to_spec(request.spec), to_caller(context), request.request_id)
        return pb.CreateEvaluationResponse(evaluation=to_evaluation(evaluation))

    async def WatchEvaluation(
        self,
        request: pb.WatchEvaluationRequest,
        context: Context,
    ) -> AsyncIterator[pb.WatchEvaluationResponse]:
        """Stream events."""
        async for event in self._jobs.watch(to_id(request.name), request.after_sequence):
            yield pb.WatchEvaluationResponse(event=to_event(event))

    async def GetEvaluation(self, request: pb.GetEvaluationRequest, context: Context) -> pb.GetEvaluationResponse:
        """Return an evaluation."""
        return pb.GetEvaluationResponse(evaluation=to_evaluation(await self._jobs.get(to_id(request.name))))

    async def ListEvaluations(self, request: pb.ListEvaluationsRequest, context: Context) -> pb.ListEvaluationsResponse:
        """List evaluations."""
        before, count = to_listing(request)
        found, following = await self._jobs.page(before, count, to_filter(request))
        shown = fitting(map(to_evaluation, found), MAX_PAGE_BYTES)
        if len(shown) < len(found):
            following = found[len(shown) - 1].ordinal
        return pb.ListEvaluationsResponse(
            evaluations=shown, next_page_token="" if following is None else str(following)
        )

    async def CancelEvaluation(
        self, request: pb.CancelEvaluationRequest, context: Context
    ) -> pb.CancelEvaluationResponse:
        """Stop an evaluation."""
        return pb.CancelEvaluationResponse(evaluation=to_evaluation(await self._jobs.cancel(to_id(request.name))))

    async def DeleteEvaluation(
        self, request: pb.DeleteEvaluationRequest, context: Context
    ) -> pb.DeleteEvaluationResponse:
        """Forget an evaluation."""
        await self._jobs.delete(to_id(request.name))
        return pb.DeleteEvaluationResponse()

    async def ListQueryResults(
        self, request: pb.ListQueryResultsRequest, context: Context
    ) -> pb.ListQueryResultsResponse:
        """List what was retrieved."""
        page = to_page(request.page_size, request.page_token, 100, 1000)
        rows, total = await self._jobs.results(to_id(request.name), page.start, page.stop - page.start)
        shown = fitting(map(to_query_result, rows), MAX_PAGE_BYTES)
        token = next_token(slice(page.start, page.start + len(shown)), total)
        return pb.ListQueryResultsResponse(results=shown, next_page_token=token)

    async def CompareEvaluations(
        self, request: pb.CompareEvaluationsRequest, context: Context
    ) -> pb.CompareEvaluationsResponse:
        """Compare evaluations pair by pair."""
        wanted = to_comparison(request)
        results = await self._jobs.comparable(wanted.ids, wanted.cutoff)
        return await asyncio.to_thread(to_comparison_response, results, wanted)

    async def ListDatasets(self, request: pb.ListDatasetsRequest, context: Context) -> pb.ListDatasetsResponse:
        """List the data sets known by name."""
        cards = await asyncio.to_thread(self._datasets.cards)
        return pb.ListDatasetsResponse(datasets=map(to_dataset, cards))

    async def GetDataset(self, request: pb.GetDatasetRequest, context: Context) -> pb.GetDatasetResponse:
        """Describe a data set."""
        dataset = await self._datasets.load(request.uri)
        card = await asyncio.to_thread(lambda: dataset.card)
        manifest = await asyncio.to_thread(self._datasets.manifest, card.digest)
        return pb.GetDatasetResponse(dataset=to_dataset(card), manifest=manifest)

    async def ListTexts(self, request: pb.ListTextsRequest, context: Context) -> pb.ListTextsResponse:
        """Read texts by id."""
        wanted = to_excerpts(request)
        dataset = await self._datasets.load(request.dataset)
        return await asyncio.to_thread(to_texts_response, dataset, wanted)

    async def ImportDataset(self, request: pb.ImportDatasetRequest, context: Context) -> pb.ImportDatasetResponse:
        """Take a data set in."""
        imported, audit = await self._imports.take_in(request.uri, lenient=request.lenient, model=request.model)
        return await asyncio.to_thread(to_import_response, imported, audit)

    async def ReadDataset(
        self, request: pb.ReadDatasetRequest, context: Context
    ) -> AsyncIterator[pb.ReadDatasetResponse]:
        """Stream rows of a data set."""
        dataset = await self._datasets.load(request.dataset)
        rows = to_rows(dataset, request.part)
        while (block := await asyncio.to_thread(next, rows, None)) is not None:
            yield block

    async def GenerateDataset(
        self, request: pb.GenerateDatasetRequest, context: Context
    ) -> AsyncIterator[pb.GenerateDatasetResponse]:
        """Make a data set."""
        spec = to_generation(request, self._generator.tokenizer)
        async with aclosing(self._generator.generate(spec, estimate_only=request.estimate_only)) as steps:
            async for progress in steps:
                yield to_generation_response(progress)
