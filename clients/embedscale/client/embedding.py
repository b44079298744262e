"""Embedding texts from Python."""

import asyncio
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from embedscale.client.channel import AsyncClosing, Channel
from embedscale.client.errors import ClientError, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub

if TYPE_CHECKING:
    from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceAsyncStub

InputType = Literal["unspecified", "query", "document"]
Truncation = Literal["error", "end", "windows"]

BATCH_SIZE = 64
CONCURRENT_BATCHES = 4
TIMEOUT_SECONDS = 600.0
LOOK_AGAIN_SECONDS = 15.0

USABLE = (pb.MODEL_STATE_READY, pb.MODEL_STATE_UNLOADED)
"""States in which a model answers; one that is not in memory is loaded for its first call."""

_Home = tuple[Channel, pb.Model]


@dataclass(frozen=True)
class EmbedResult:
    """Vectors and what they cost: row i of the float32 matrix (n, d) and entry i of `inputs` belong to text i."""

    vectors: NDArray[np.float32]
    inputs: Sequence[pb.InputFacts]
    fingerprint: str
    tokens_used: int
    cost: float
    """US dollars."""

    @property
    def cache_hits(self) -> int:
        """How many vectors came from the cache."""
        return sum(facts.cache_hit for facts in self.inputs)

    @property
    def truncated(self) -> int:
        """How many texts were cut to the model's maximum."""
        return sum(facts.truncated for facts in self.inputs)


class AsyncEmbeddingClient(AsyncClosing):
    """Embeds through one or several servers; a model is found at whichever address lists it.

    Several addresses that list the same model, in the same vector space, share the batches; when one of them does not
    answer, the others do its part, and it is asked again some seconds later.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        if not addresses:
            raise ValueError("addresses is empty: name at least one host:port")
        self._channels = [Channel(address) for address in addresses]
        self._homes: dict[str, list[_Home]] = {}
        self._turn = itertools.count()
        self._look_again = math.inf

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
        """Embed texts in batches, a few at a time. `timeout` is for the whole, in seconds.

        Raises ClientError; InvalidArgument for a text with a lone surrogate, which no encoding of texts can write.
        """
        given = list(texts)
        _refuse_surrogates(given)
        _, description = await self._home(model)
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
        responses = await self._send(requests, timeout)
        _refuse_mixed(responses, model)
        return _joined(responses, dimensions or description.dimensions, description.fingerprint)

    async def _send(self, requests: Sequence[pb.EmbedRequest], timeout: float) -> Sequence[pb.EmbedResponse]:
        """Send all, a few at a time, within `timeout` seconds; the first failure cancels the others and is raised."""
        places = asyncio.Semaphore(CONCURRENT_BATCHES)
        deadline = asyncio.get_running_loop().time() + timeout

        async def send(request: pb.EmbedRequest, position: int) -> pb.EmbedResponse:
            async with places:
                try:
                    return await self._answered(request, deadline)
                except ClientError as error:
                    raise error.moved(position) from None

        try:
            async with asyncio.TaskGroup() as group:
                size = len(requests[0].inputs) if requests else 0
                tasks = [group.create_task(send(request, index * size)) for index, request in enumerate(requests)]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _answered(self, request: pb.EmbedRequest, deadline: float) -> pb.EmbedResponse:
        """Ask one home of the model after the other until one answers."""
        while True:
            channel, _ = await self._home(request.model)
            left = deadline - asyncio.get_running_loop().time()
            try:
                return await channel.call(_stub(channel).Embed(request, timeout=left))
            except Unavailable:
                if not self._left_without(channel, request.model):
                    raise

    def _left_without(self, channel: Channel, model: str) -> bool:
        """Pass over a channel that does not answer; whether the model has another home. The last is looked for anew."""
        self._look_again = min(self._look_again, asyncio.get_running_loop().time() + LOOK_AGAIN_SECONDS)
        left = [home for home in self._homes.pop(model, []) if home[0] is not channel]
        if left:
            self._homes[model] = left
        return bool(left)

    async def count_tokens(
        self,
        texts: Iterable[str],
        *,
        model: str,
        input_type: InputType = "unspecified",
        timeout: float = TIMEOUT_SECONDS,
    ) -> list[int]:
        """Tokens of each text before truncation, prompt and special tokens included. Raises ClientError."""
        given = list(texts)
        channel, description = await self._home(model)
        size = min(BATCH_SIZE, description.max_inputs or BATCH_SIZE)
        counts: list[int] = []
        for start in range(0, len(given), size):
            request = pb.CountTokensRequest(
                model=model,
                inputs=[pb.Input(text=text) for text in given[start : start + size]],
                input_type=f"INPUT_TYPE_{input_type.upper()}",
            )
            counts += (await channel.call(_stub(channel).CountTokens(request, timeout=timeout))).token_counts
        return counts

    async def models(self) -> list[pb.Model]:
        """List the models of all addresses, by name. Raises ClientError if one of them does not answer."""
        listed = await asyncio.gather(*(self._list(channel) for channel in self._channels))
        return sorted((model for models in listed for model in models), key=lambda model: model.name)

    async def available_models(self) -> list[pb.Model]:
        """List the models of the addresses that answer, by name. Raises ClientError if none of them does."""
        listed, failures = await self._listed()
        if failures and not listed:
            raise failures[0]
        return sorted((model for _, models in listed for model in models), key=lambda model: model.name)

    async def model(self, name: str) -> pb.Model:
        """Describe one model, wherever it is. Raises NotFound."""
        return (await self._home(name))[1]

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(channel.close() for channel in self._channels))

    async def _home(self, name: str) -> _Home:
        """One of the model's homes, in turn."""
        late = asyncio.get_running_loop().time() > self._look_again
        if late or not any(model.state in USABLE for _, model in self._homes.get(name, [])):
            await self._look_for(name)
        homes = self._homes[name]
        return homes[next(self._turn) % len(homes)]

    async def _look_for(self, name: str) -> None:
        listed, failures = await self._listed()
        self._look_again = asyncio.get_running_loop().time() + LOOK_AGAIN_SECONDS if failures else math.inf
        found: dict[str, list[_Home]] = {}
        for channel, models in listed:
            for model in models:
                found.setdefault(model.name, []).append((channel, model))
        self._homes = {model: _alike(homes) for model, homes in found.items()}
        if name in self._homes:
            return
        if failures:
            raise failures[0]
        known = ", ".join(sorted(self._homes)) or "none"
        raise NotFound(f"no server lists the model {name!r}; known: {known}", reason="MODEL_NOT_FOUND", field="model")

    async def _listed(self) -> tuple[list[tuple[Channel, Sequence[pb.Model]]], list[BaseException]]:
        """Ask all addresses for their models: those that answered, and why the others did not."""
        answers = await asyncio.gather(*(self._list(channel) for channel in self._channels), return_exceptions=True)
        pairs = list(zip(self._channels, answers, strict=True))
        listed = [(channel, models) for channel, models in pairs if not isinstance(models, BaseException)]
        return listed, [answer for answer in answers if isinstance(answer, BaseException)]

    async def _list(self, channel: Channel) -> Sequence[pb.Model]:
        response = await channel.call(_stub(channel).ListModels(pb.ListModelsRequest(), timeout=10.0))
        return response.models


def _stub(channel: Channel) -> "EmbeddingServiceAsyncStub":
    return EmbeddingServiceStub(channel.grpc)


def _alike(homes: Sequence[_Home]) -> list[_Home]:
    """Those that can be used, and of the vector space of the first of them; all when none can."""
    ready = [home for home in homes if home[1].state in USABLE]
    return [home for home in ready if home[1].fingerprint == ready[0][1].fingerprint] or list(homes)


def _refuse_surrogates(texts: Sequence[str]) -> None:
    for index, text in enumerate(texts):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            field = f"inputs[{index}].text"
            message = f"{field} has a lone surrogate at character {error.start}"
            raise InvalidArgument(message, reason="INVALID_FIELD", field=field) from None


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
        cost=sum(response.cost for response in responses),
    )
