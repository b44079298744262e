"""What is under way when a fault comes: a corpus embedded, sets evaluated, a set generated, as the guides say how."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from embedscale.client import AsyncEmbeddingClient, AsyncEvaluationClient, ResourceExhausted, Unavailable
from embedscale.evaluator import builtin
from embedscale.v1 import evaluation_service_pb2 as pb
from tests.chaos.cluster import Cluster
from tests.conftest import E5, MINILM
from tests.contract.generation import CHAT, content, write_documents
from tests.e2e.load import same

ResultT = TypeVar("ResultT")

LANGUAGES = ("en", "fr", "cs", "hu", "ko")
_REFUSED = (Unavailable, ResourceExhausted)
"""What a caller is told that may come back: the service is away, or has too much to do."""
_PAUSE_SECONDS = 1.0
_MOST_REFUSALS = 60


@dataclass(frozen=True)
class Work:
    """How much is done with a model: it takes each activity some ten seconds where nothing disturbs it."""

    model: str
    texts: int
    characters: int
    datasets: tuple[str, ...]


@dataclass
class Course:
    """How one activity went. `successes` are moments of the monotonic clock; `outcome` is what must not differ."""

    successes: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    outcome: object = None

    def succeed(self) -> None:
        self.successes.append(time.monotonic())

    async def repeated(self, call: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Call again what was refused."""
        while True:
            try:
                return await call()
            except _REFUSED as error:
                self.refused.append(repr(error))
                if len(self.refused) > _MOST_REFUSALS:
                    raise
            await asyncio.sleep(_PAUSE_SECONDS)


Activity = Callable[[Cluster, Work, Course], Awaitable[None]]


async def embedding(cluster: Cluster, work: Work, course: Course) -> None:
    """Stream a corpus through the client: every text has its vector, in order."""
    passages = [text for language in LANGUAGES for text in builtin.load(f"builtin:velmar/{language}").corpus.values()]
    texts = [f"{number} {passages[number % len(passages)]}"[: work.characters] for number in range(work.texts)]
    rows: list[np.ndarray] = []

    async def stream() -> None:
        async for block in client.embed_iter(texts[len(rows) :], model=work.model, input_type="document"):
            rows.extend(block.vectors)
            course.succeed()

    async with AsyncEmbeddingClient([cluster.address(name) for name in ("embedder", "openai_proxy")]) as client:
        await course.repeated(stream)
    if len(rows) != len(texts):
        course.lost.append(f"{len(texts) - len(rows)} of {len(texts)} vectors")
    course.outcome = np.stack(rows)


async def evaluation(cluster: Cluster, work: Work, course: Course) -> None:
    """Evaluate sets at the same time, and watch each from its first event to its last."""
    async with AsyncEvaluationClient(cluster.address("evaluator")) as client:
        results = await asyncio.gather(*(_evaluated(client, work.model, uri, course) for uri in work.datasets))
    course.outcome = results


async def _evaluated(client: AsyncEvaluationClient, model: str, uri: str, course: Course) -> object:
    request = f"{uri} {time.monotonic()}"
    name = (await course.repeated(lambda: client.create(model, uri, cutoffs=[1, 5], request_id=request))).name
    events: list[pb.EvaluationEvent] = []

    async def watch() -> None:
        async for event in client.watch(name, events[-1].sequence if events else 0):
            events.append(event)
            if event.done:
                course.succeed()

    await course.repeated(watch)
    if [event.sequence for event in events] != list(range(1, len(events) + 1)):
        course.lost.append(f"events of {uri}: {[event.sequence for event in events]}")
    again = await course.repeated(lambda: _all_events(client, name))
    if again != events:
        course.lost.append(f"events of {uri} read again: {len(again)} of {len(events)}")
    return await course.repeated(lambda: _scores(client, name, course))


async def _all_events(client: AsyncEvaluationClient, name: str) -> list[pb.EvaluationEvent]:
    return [event async for event in client.watch(name)]


async def _scores(client: AsyncEvaluationClient, name: str, course: Course) -> object:
    """Everything that two runs must have in common."""
    evaluation = await client.get(name)
    if evaluation.state != pb.EVALUATION_STATE_SUCCEEDED:
        course.lost.append(f"{name}: {pb.EvaluationState.Name(evaluation.state)} {evaluation.error.message}")
        return None
    result = evaluation.result
    metrics = [(one.name, one.cutoff, one.value, one.lower, one.upper) for one in result.metrics]
    rows = [
        (row.query_id, row.rank, [document.document_id for document in row.retrieved])
        async for row in client.query_results(name)
    ]
    return metrics, result.query_count, result.document_count, result.fingerprint, result.dataset_digest, rows


async def generation(cluster: Cluster, work: Work, course: Course) -> None:
    """Have questions written about documents, and each chunk found again by the model."""
    filters = pb.QuestionFilters(round_trip_model=work.model, round_trip_depth=20)
    chunking = pb.Chunking(kind=pb.CHUNKER_KIND_PARAGRAPH, tokenizer=MINILM, max_tokens=60)

    async def made(client: AsyncEvaluationClient) -> pb.GenerateDatasetResponse:
        last = None
        wanted = client.generate_dataset(
            [str(cluster.documents / "depots")], language="en", model=CHAT, chunking=chunking, filters=filters
        )
        async for last in wanted:  # noqa: B007
            course.succeed()
        assert last is not None
        return last

    async with AsyncEvaluationClient(cluster.address("evaluator")) as client:
        last = await course.repeated(lambda: made(client))
        if not last.dataset.digest:
            course.lost.append(f"no set: {last}")
        written = await course.repeated(lambda: content(client, last.dataset.uri))
    course.outcome = (last.dataset.digest, last.manifest, written)


ACTIVITIES: Mapping[str, Activity] = {"embedding": embedding, "evaluation": evaluation, "generation": generation}


def works(cluster: Cluster, scale: float) -> dict[str, Work]:
    """Write what is worked on: by target, with the model that the target has a part in."""
    write_documents(cluster.documents / "depots", max(round(10 * scale), 2), 10)
    sets = tuple(_written(cluster, language, round(100 * scale)) for language in LANGUAGES)
    local = Work(MINILM, round(1500 * scale), 100, sets)
    remote = Work(E5, round(400 * scale), 40, sets[:1])  # the upstream is slow
    return {"embedder": local, "evaluator": local, "redis": local, "openai_proxy": remote, "upstream": remote}


def _written(cluster: Cluster, language: str, size: int) -> str:
    """Path of a set of short texts."""
    passages = list(builtin.load(f"builtin:velmar/{language}").corpus.values())
    content = {
        "queries": {f"q{n}": f"{n} {passages[n % len(passages)][:40]}" for n in range(size)},
        "corpus": {f"d{n}": f"{n} {passages[n % len(passages)][:100]}" for n in range(size)},
        "relevant_docs": {f"q{n}": [f"d{n}"] for n in range(size)},
        "mode": "text",
    }
    file = cluster.documents / f"{language}.json"
    file.write_text(json.dumps(content), "utf-8")
    return str(file)


def differs(outcome: object, expected: object) -> str:
    """What differs between two outcomes of one activity; nothing if they are the same."""
    if isinstance(outcome, np.ndarray) and isinstance(expected, np.ndarray):
        if outcome.shape != expected.shape:
            return f"{outcome.shape} vectors, not {expected.shape}"
        return "" if same(outcome, expected) else "vectors"
    return "" if outcome == expected else "the result"
