"""Which of several addresses has a model."""

import asyncio
import itertools
import math
from collections.abc import Sequence

from embedscale.client.channel import Channel
from embedscale.client.errors import NotFound
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub

LOOK_AGAIN_SECONDS = 15.0
LIST_SECONDS = 10.0

USABLE = (pb.MODEL_STATE_READY, pb.MODEL_STATE_UNLOADED)
"""States in which a model answers; one that is not in memory is loaded for its first call."""

Home = tuple[Channel, pb.Model]


class Homes:
    """Finds models at whichever address lists them.

    Addresses that do not answer are passed over, and asked again some seconds later, while others do their part.
    """

    def __init__(self, channels: Sequence[Channel]) -> None:
        self._channels = channels
        self._homes: dict[str, list[Home]] = {}
        self._turn = itertools.count()
        self._look_again = math.inf
        self._looking: asyncio.Task[list[BaseException]] | None = None

    async def next(self, name: str) -> Home:
        """One of the model's homes, in turn. Raises NotFound, and ClientError if no address answers."""
        if not any(model.state in USABLE for _, model in self._homes.get(name, [])):
            await self._look_for(name)
        elif asyncio.get_running_loop().time() > self._look_again:
            self._look_anew()
        homes = self._homes[name]
        return homes[next(self._turn) % len(homes)]

    async def close(self) -> None:
        """Stop looking."""
        if self._looking:
            self._looking.cancel()

    def leave(self, channel: Channel, name: str) -> bool:
        """Pass over a channel that does not answer; whether the model has another home. The last is looked for anew."""
        self._look_again = min(self._look_again, asyncio.get_running_loop().time() + LOOK_AGAIN_SECONDS)
        left = [home for home in self._homes.pop(name, []) if home[0] is not channel]
        if left:
            self._homes[name] = left
        return bool(left)

    async def listed(self) -> tuple[list[tuple[Channel, Sequence[pb.Model]]], list[BaseException]]:
        """Ask all addresses for their models: those that answered, and why the others did not."""
        answers = await asyncio.gather(*map(list_models, self._channels), return_exceptions=True)
        pairs = list(zip(self._channels, answers, strict=True))
        listed = [(channel, models) for channel, models in pairs if not isinstance(models, BaseException)]
        return listed, [answer for answer in answers if isinstance(answer, BaseException)]

    async def _look_for(self, name: str) -> None:
        failures = await asyncio.shield(self._look_anew())
        if name in self._homes:
            return
        if failures:
            raise failures[0]
        known = ", ".join(sorted(self._homes)) or "none"
        raise NotFound(f"no server lists the model {name!r}; known: {known}", reason="MODEL_NOT_FOUND", field="model")

    def _look_anew(self) -> "asyncio.Task[list[BaseException]]":
        """Look for all models, once for all who ask meanwhile."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        return self._looking

    async def _look(self) -> list[BaseException]:
        listed, failures = await self.listed()
        self._look_again = asyncio.get_running_loop().time() + LOOK_AGAIN_SECONDS if failures else math.inf
        found: dict[str, list[Home]] = {}
        for channel, models in listed:
            for model in models:
                found.setdefault(model.name, []).append((channel, model))
        self._homes = {model: _alike(homes) for model, homes in found.items()}
        return failures


async def list_models(channel: Channel) -> Sequence[pb.Model]:
    """List the models of one address. Raises ClientError."""
    stub = EmbeddingServiceStub(channel.grpc)
    response = await channel.call(stub.ListModels(pb.ListModelsRequest(), timeout=LIST_SECONDS))
    return response.models


def _alike(homes: Sequence[Home]) -> list[Home]:
    """Those that can be used, and of the vector space of the first of them; all when none can."""
    ready = [home for home in homes if home[1].state in USABLE]
    return [home for home in ready if home[1].fingerprint == ready[0][1].fingerprint] or list(homes)
