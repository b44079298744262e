"""Embedding texts from Python."""

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from embedscale.client.channel import AsyncClosing, Channel
from embedscale.client.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub

if TYPE_CHECKING:
    from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceAsyncStub

InputType = Literal["unspecified", "query", "document"]
Truncation = Literal["error", "end", "windows"]

BATCH_SIZE = 64
CONCURRENT_BATCHES = 4
TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True)
class EmbedResult:
    """Vectors and what they cost: row i of the float32 matrix (n, d) and entry i of `inputs` belong to text i."""

    vectors: NDArray[np.float32]
    inputs: Sequence[pb.InputFacts]
    fingerprint: str
    tokens_used: int

    @property
    def cache_hits(self) -> int:
        """How many vectors came from the cache."""
        return sum(facts.cache_hit for facts in self.inputs)

    @property
    def truncated(self) -> int:
        """How many texts were cut to the model's maximum."""
        return sum(facts.truncated for facts in self.inputs)


class AsyncEmbeddingClient(AsyncClosing):
    """Embeds through one or several servers; a model is found at whichever address lists it."""

    def __init__(self, addresses: Sequence[str]) -> None:
        if not addresses:
            raise ValueError("addresses is empty: name at least one host:port")
        self._channels = [Channel(address) for address in addresses]
        self._homes: dict[str, tuple[Channel, pb.Model]] = {}

    async def embed(
        self,
        texts: Iterable[str],
        *,
        model: str,
        input_type: InputType = "unspecified",
        dimensions: int = 0,
        truncation: Truncation = "error",
        timeout: float = TIMEOUT_SECONDS,
    ) -> EmbedResult:
        """Embed texts in batches, a few at a time. `timeout` is for the whole, in seconds. Raises ClientError."""
        given = list(texts)
        channel, description = await self._home(model)
        size = min(BATCH_SIZE, description.max_inputs or BATCH_SIZE)
        requests = [
            pb.EmbedRequest(
                model=model,
                inputs=[pb.Input(text=text) for text in given[start : start + size]],
                input_type=f"INPUT_TYPE_{input_type.upper()}",
                dimensions=dimensions,
                truncation=f"TRUNCATION_{truncation.upper()}",
            )
            for start in range(0, len(given), size)
        ]
        responses = await self._send(channel, requests, timeout)
        _refuse_mixed(responses, model)
        return _joined(responses, dimensions or description.dimensions, description.fingerprint)

    async def _send(
        self, channel: Channel, requests: Sequence[pb.EmbedRequest], timeout: float
    ) -> Sequence[pb.EmbedResponse]:
        """Send all, a few at a time, within `timeout` seconds; the first failure cancels the others and is raised."""
        places = asyncio.Semaphore(CONCURRENT_BATCHES)
        deadline = asyncio.get_running_loop().time() + timeout

        async def send(request: pb.EmbedRequest, before: int) -> pb.EmbedResponse:
            async with places:
                left = deadline - asyncio.get_running_loop().time()
                try:
                    return await channel.call(_stub(channel).Embed(request, timeout=left))
                except InvalidArgument as error:
                    raise _among_all(error, before) from None

        try:
            async with asyncio.TaskGroup() as group:
                befores = accumulate((len(request.inputs) for request in requests), initial=0)
                tasks = [group.create_task(send(*one)) for one in zip(requests, befores, strict=False)]
        except ExceptionGroup as failures:
            if isinstance(failures.exceptions[0], Unavailable):
                self._homes.clear()  # the next call looks where models are now
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def models(self) -> list[pb.Model]:
        """List the models of all addresses, by name. Raises ClientError if one of them does not answer."""
        listed = await asyncio.gather(*(self._list(channel) for channel in self._channels))
        return sorted((model for models in listed for model in models), key=lambda model: model.name)

    async def model(self, name: str) -> pb.Model:
        """Describe one model, wherever it is. Raises NotFound."""
        return (await self._home(name))[1]

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(channel.close() for channel in self._channels))

    async def _home(self, name: str) -> tuple[Channel, pb.Model]:
        if name not in self._homes or self._homes[name][1].state != pb.MODEL_STATE_READY:
            await self._look_for(name)
        return self._homes[name]

    async def _look_for(self, name: str) -> None:
        answers = await asyncio.gather(*(self._list(channel) for channel in self._channels), return_exceptions=True)
        for channel, models in zip(self._channels, answers, strict=True):
            if not isinstance(models, BaseException):
                self._homes |= {model.name: (channel, model) for model in models}
        if name in self._homes:
            return
        if failures := [answer for answer in answers if isinstance(answer, BaseException)]:
            raise failures[0]
        known = ", ".join(sorted(self._homes)) or "none"
        raise NotFound(f"no server lists the model {name!r}; known: {known}", reason="MODEL_NOT_FOUND", field="model")

    async def _list(self, channel: Channel) -> Sequence[pb.Model]:
        response = await channel.call(_stub(channel).ListModels(pb.ListModelsRequest(), timeout=10.0))
        return response.models


def _stub(channel: Channel) -> "EmbeddingServiceAsyncStub":
    return EmbeddingServiceStub(channel.grpc)


def _among_all(error: InvalidArgument, before: int) -> InvalidArgument:
    """Name the place among all texts given, of which `before` were in earlier batches."""
    place = re.match(r"inputs\[(\d+)\]", error.field)
    if place is None:
        return error
    named = f"inputs[{int(place[1]) + before}]"
    message, field = (text.replace(place[0], named) for text in (error.message, error.field))
    return InvalidArgument(message, reason=error.reason, field=field)


def _refuse_mixed(responses: Sequence[pb.EmbedResponse], model: str) -> None:
    if len({response.fingerprint for response in responses}) > 1:
        message = f"replicas of {model!r} have different vector spaces; their vectors cannot be used together"
        raise FailedPrecondition(message, reason="UPSTREAM_CHANGED")


def _joined(responses: Sequence[pb.EmbedResponse], dimensions: int, fingerprint: str) -> EmbedResult:
    """Put the batches' answers one below the other."""
    blocks = [np.frombuffer(r.embeddings, "<f4").reshape(-1, r.dimensions) for r in responses]
    nothing = np.empty((0, dimensions), np.float32)
    return EmbedResult(
        vectors=np.concatenate(blocks or [nothing]).astype(np.float32, copy=False),
        inputs=[facts for response in responses for facts in response.inputs],
        fingerprint=responses[0].fingerprint if responses else fingerprint,
        tokens_used=sum(response.tokens_used for response in responses),
    )
