"""An EmbeddingService that answers late, out of order, and not always: what replicas under load do to a client."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from grpc_status import rpc_status

from embedscale.core import errors
from embedscale.servicekit.status import to_status
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceServicer
from tests.fakes.hash_engine import DIMENSIONS, hashed

MOODY = "moody"


class MoodyServer(EmbeddingServiceServicer):
    """Refuses a share of the calls for a moment; `failures` are raised first, one a call."""

    def __init__(self, *, max_inputs: int = 7, refused: float = 0.0, seconds: float = 0.004) -> None:
        self.max_inputs = max_inputs
        self.refused = refused
        self.seconds = seconds
        self.failures: list[errors.EmbedscaleError] = []
        self.fingerprint = "a" * 32
        self.random = random.Random(5)
        self.requests: list[Sequence[str]] = []
        self.running = self.most_running = self.cancelled = self.listed = 0

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        model = pb.Model(name=MOODY, state=pb.MODEL_STATE_READY, dimensions=DIMENSIONS, fingerprint=self.fingerprint)
        model.max_inputs = self.max_inputs
        self.listed += 1
        return pb.ListModelsResponse(models=[model])

    async def Embed(self, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:
        if failure := self._failure():
            await context.abort_with_status(rpc_status.to_status(to_status(failure)))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(self.seconds * self.random.random())
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        return self._answer([given.text for given in request.inputs])

    def _failure(self) -> errors.EmbedscaleError | None:
        if self.failures:
            return self.failures.pop(0)
        if self.random.random() < self.refused:
            overloaded = errors.Overloaded("not now", retry_after=0.001)
            return self.random.choice((overloaded, overloaded, errors.ModelStarting("not now")))
        return None

    def _answer(self, texts: Sequence[str]) -> pb.EmbedResponse:
        self.requests.append(texts)
        return pb.EmbedResponse(
            embeddings=np.stack([hashed(text) for text in texts]).astype("<f4").tobytes(),
            dimensions=DIMENSIONS,
            inputs=[facts(text) for text in texts],
            fingerprint=self.fingerprint,
            tokens_used=sum(map(len, texts)),
            cost=0.5,
        )


def facts(text: str) -> pb.InputFacts:
    """Facts that depend on the text, so that a mix-up shows; a text that ends in "?" is not counted."""
    told = pb.InputFacts(truncated="t" in text, cache_hit="c" in text)
    if not text.endswith("?"):
        told.token_count = len(text)
    return told
