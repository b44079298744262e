"""What requests need: connections to every server, the texts, and what right answers are."""

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc
import httpx
from grpc_health.v1 import health_pb2_grpc

from embedscale.client import AsyncEvaluationClient
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1 import types_pb2 as wire
from embedscale.v1.cache_service_pb2_grpc import CacheServiceStub
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from tests.conftest import MINILM
from tests.soak.answers import Answers
from tests.soak.cluster import REMOTE, Cluster
from tests.soak.texts import Texts, unseen

CALL_SECONDS = 60.0
_ENCODINGS = (wire.ENCODING_UNSPECIFIED, *(wire.Encoding.values()[1:]))
_FOR_LONG_TEXTS = (wire.TRUNCATION_END, wire.TRUNCATION_WINDOWS)
_INPUT_TYPES = (wire.INPUT_TYPE_UNSPECIFIED, wire.INPUT_TYPE_QUERY, wire.INPUT_TYPE_DOCUMENT)


class EmbeddingServer:
    """One embedding server, the one model that it hosts, and all it can be asked."""

    def __init__(self, address: str, channel: grpc.aio.Channel, model: pb.Model) -> None:
        self.address = address
        self.channel = channel
        self.model = model
        self.embedding = EmbeddingServiceStub(channel)
        self.cache = CacheServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)


@dataclass
class World:
    """Everything an operation may use."""

    embedder: EmbeddingServer
    proxy: EmbeddingServer
    evaluations: AsyncEvaluationClient
    evaluator_health: health_pb2_grpc.HealthStub
    http: httpx.AsyncClient
    texts: Texts
    answers: Answers
    reference: str = ""
    """Name of an evaluation that others are compared with."""

    def server(self, pick: random.Random) -> EmbeddingServer:
        return self.embedder if pick.random() < 0.75 else self.proxy

    def request(self, server: EmbeddingServer, pick: random.Random) -> pb.EmbedRequest:
        """Any valid request."""
        texts, truncation = self.texts.some(pick), pick.choice([wire.TRUNCATION_UNSPECIFIED, *server.model.truncations])
        if server is self.embedder and truncation in _FOR_LONG_TEXTS and pick.random() < 0.1:
            texts[0] = pick.choice(self.texts.long)
        return pb.EmbedRequest(
            model=server.model.name,
            inputs=[pb.Input(text=text) for text in texts],
            input_type=pick.choice(_INPUT_TYPES),
            dimensions=pick.choice([0, *server.model.supported_dimensions]),
            truncation=truncation,
            encoding=pick.choice(_ENCODINGS),
        )

    def new(self, server: EmbeddingServer, pick: random.Random, count: int = 1) -> pb.EmbedRequest:
        """Build a request that no cache can answer."""
        return pb.EmbedRequest(model=server.model.name, inputs=[pb.Input(text=unseen(pick)) for _ in range(count)])


@asynccontextmanager
async def connected(cluster: Cluster, seed: int) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:

        async def channel(name: str) -> grpc.aio.Channel:
            return await stack.enter_async_context(grpc.aio.insecure_channel(cluster.address(name)))

        async def server(name: str, model: str) -> EmbeddingServer:
            opened = await channel(name)
            described = await EmbeddingServiceStub(opened).GetModel(pb.GetModelRequest(model=model))
            return EmbeddingServer(cluster.address(name), opened, described.model)

        base = f"http://{cluster.address('openai_gateway')}"
        texts = Texts(seed)
        yield World(
            embedder=await server("embedder", MINILM),
            proxy=await server("openai_proxy", REMOTE),
            evaluations=await stack.enter_async_context(AsyncEvaluationClient(cluster.address("evaluator"))),
            evaluator_health=health_pb2_grpc.HealthStub(await channel("evaluator")),
            http=await stack.enter_async_context(
                httpx.AsyncClient(base_url=base, timeout=CALL_SECONDS, trust_env=False)
            ),
            texts=texts,
            answers=Answers(frozenset(texts.known), frozenset(texts.long)),
        )
