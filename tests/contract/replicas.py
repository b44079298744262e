"""Evaluators that share what they keep, over a model that computes as much as a test lets it."""

import json
import math
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from embedscale.client import AsyncEvaluationClient
from embedscale.core.embedding import EngineBatch, PreparedText, Truncation
from embedscale.evaluator import bootstrap
from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.servicekit.lifecycle import Server
from embedscale.v1 import evaluation_service_pb2 as pb
from tests.fakes.hash_engine import HashEngine
from tests.waiting import eventually

QUERIES, DOCUMENTS = 40, 100


class HeldEngine(HashEngine):
    """Computes `free` batches; `waiting` are held until it may compute more."""

    free = math.inf
    waiting = 0

    async def embed(
        self, texts: Sequence[PreparedText], truncation: Truncation, deadline: float | None = None
    ) -> EngineBatch:
        self.waiting += 1
        try:
            await eventually(lambda: self.free > 0, "held for ever", seconds=600)
        finally:
            self.waiting -= 1
        self.free -= 1
        return await super().embed(texts, truncation, deadline)


@dataclass
class Replicas:
    """Evaluators, started one by one, of a model that computes as much as the test lets it."""

    stack: AsyncExitStack
    engine: HeldEngine
    embedder: str
    folder: Path
    redis_url: str
    running: list[Server] = field(default_factory=list)

    async def start(self, **settings: object) -> tuple[AsyncEvaluationClient, Server]:
        chosen = {
            "redis_url": self.redis_url,
            "lease_seconds": 5.0,
            "running_evaluations": 1,
            "data_folder": self.folder / "state",
        } | settings
        read = EvaluatorSettings(
            embedding_addresses=[self.embedder], dataset_roots=[self.folder], drain_seconds=0, **chosen
        )
        server = Server(bootstrap.build(read), read)
        await server.listen()
        self.running.append(server)
        self.stack.push_async_callback(self.stop, server)
        await server.become_ready()
        client = AsyncEvaluationClient(f"127.0.0.1:{server.port}")
        self.stack.push_async_callback(client.close)
        return client, server

    async def stop(self, server: Server) -> None:
        """Stop a server, unless the test has done so."""
        if server in self.running:
            self.running.remove(server)
            await server.stop()

    def dataset(self, name: str) -> str:
        """Texts of their own for each name, so that no vector is cached."""
        file = self.folder / f"{name}.json"
        content = {
            "queries": {f"q {n}": f"query {name} {n}" for n in range(QUERIES)},
            "corpus": {f"d {n}": f"text {name} {n}" for n in range(DOCUMENTS)},
            "relevant_docs": {f"q {n}": [f"d {n}"] for n in range(QUERIES)},
            "mode": "text",
        }
        file.write_text(json.dumps(content))
        return str(file)


async def ended(client: AsyncEvaluationClient, name: str) -> pb.Evaluation:
    async for _ in client.watch(name):
        pass
    return await client.get(name)
