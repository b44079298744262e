"""EmbeddingService on the wire: convert, await, convert."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any

import grpc

from embedscale.core.ordered import in_order
from embedscale.embedding.convert import to_command, to_input_type, to_model, to_response, to_texts
from embedscale.embedding.service import EmbeddingService
from embedscale.servicekit.status import to_wire
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1 import embedding_service_pb2_grpc as pb_grpc

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["EmbeddingService"].full_name
_STREAM_WINDOW = 4

Context = grpc.aio.ServicerContext[Any, Any]


class EmbeddingServicer(pb_grpc.EmbeddingServiceServicer):
    """See `embedding_service.proto`."""

    def __init__(self, service: EmbeddingService) -> None:
        self._service = service

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        """Embed one batch."""
        command = to_command(request, context.time_remaining())
        return to_response(request.model, await self._service.embed(command))

    async def EmbedStream(
        self, request_iterator: AsyncIterator[pb.EmbedStreamRequest], context: Context
    ) -> AsyncIterator[pb.EmbedStreamResponse]:
        """Embed batch after batch, a few at a time, each answered as soon as it and those before it are done."""
        embed_one = partial(self._embed_one, context)
        async with aclosing(in_order(embed_one, request_iterator, _STREAM_WINDOW)) as responses:
            async for response in responses:
                yield response

    async def CountTokens(self, request: pb.CountTokensRequest, context: Context) -> pb.CountTokensResponse:
        """Count tokens without computing."""
        input_type = to_input_type(request.input_type)
        counts = await self._service.count_tokens(request.model, to_texts(request.inputs), input_type)
        limit = self._service.models.find(request.model).info.max_tokens
        return pb.CountTokensResponse(token_counts=counts, max_tokens=limit)

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """List the models."""
        models = [to_model(info, self._service.max_inputs) for info in self._service.models.models()]
        return pb.ListModelsResponse(models=models)

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        """Describe one model."""
        info = self._service.models.find(request.model).info
        return pb.GetModelResponse(model=to_model(info, self._service.max_inputs))

    async def _embed_one(self, context: Context, request: pb.EmbedStreamRequest) -> pb.EmbedStreamResponse:
        try:
            outcome = await self._service.embed(to_command(request.request, context.time_remaining()))
        except Exception as error:
            return pb.EmbedStreamResponse(batch_id=request.batch_id, error=to_wire(error))
        return pb.EmbedStreamResponse(batch_id=request.batch_id, response=to_response(request.request.model, outcome))
