"""Questions whose chunk an embedding model does not find again.

That a model puts another chunk first does not count against a question: it says as much of the model, and a set of the
questions that one model answers best would flatter it. Such a chunk is shown to the judge, where there is one.
"""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from embedscale.core.documents import Chunk
from embedscale.core.embedding import EmbeddedTexts, InputType, Matrix
from embedscale.core.errors import UpstreamChanged
from embedscale.core.evaluation import EvaluationSpec
from embedscale.core.generation import Candidate, Filtering
from embedscale.core.ordered import in_order
from embedscale.core.ports import BuildIndex, TextEmbedder
from embedscale.core.vector_index import IndexSpec
from embedscale.evaluator.blocks import Block, Blocks
from embedscale.evaluator.generation.relevance import Relevance
from embedscale.evaluator.pipeline import BLOCKS_AHEAD, FIRST_BLOCK
from embedscale.evaluator.retrieval import Retrieval
from embedscale.evaluator.vector_rows import in_memory

_QUERIES_AT_ONCE = 64


@dataclass(frozen=True)
class Retriever:
    """Finds the chunks of questions by exact search, through an embedding service."""

    embedder: TextEmbedder
    build_index: BuildIndex

    async def found(
        self, model: str, chunks: Mapping[str, Chunk], questions: Sequence[str], depth: int
    ) -> list[list[str]]:
        """Ids of the first `depth` chunks for each question, the best first. Texts are cut at the model's limit.

        Raises UpstreamChanged if not all vectors are of one space, and what the embedder raises.
        """
        spec = EvaluationSpec(model, "")
        corpus = [("", chunk.text) for chunk in chunks.values()]
        space, rows = await self._embedded(spec, corpus, InputType.DOCUMENT)
        other, queries = await self._embedded(spec, [("", question) for question in questions], InputType.QUERY)
        if len(space | other) > 1:
            raise UpstreamChanged(f"model {model!r} changed its vector space during the round trip")
        return await asyncio.to_thread(self._ranked, rows, list(chunks), queries, depth)

    def _ranked(self, rows: Matrix, ids: Sequence[str], queries: Matrix, depth: int) -> list[list[str]]:
        index = self.build_index(IndexSpec(), rows, threading.Event())
        retrieval = Retrieval(ids, depth)
        found: list[list[str]] = []
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            part = queries[start : start + _QUERIES_AT_ONCE]
            rankings = retrieval.rankings(index, [""] * len(part), part)
            found += [[key for key, _ in ranking] for ranking in rankings]
        return found

    async def _embedded(self, spec: EvaluationSpec, texts: Block, input_type: InputType) -> tuple[set[str], Matrix]:
        """Names of the vector spaces, which should be one, and row i for text i."""

        async def embed(block: Block) -> EmbeddedTexts:
            return await self.embedder.embed(spec, [text for _, text in block], input_type)

        spaces: set[str] = set()
        rows, done = in_memory(0, 0), 0
        blocks = Blocks(FIRST_BLOCK[input_type]).of(iter(texts))
        async with aclosing(in_order(embed, blocks, BLOCKS_AHEAD)) as answers:
            async for answer in answers:
                count, dimensions = answer.vectors.shape
                rows = rows if done else in_memory(len(texts), dimensions)
                rows[done : done + count] = answer.vectors
                done += count
                spaces.add(answer.fingerprint)
        return spaces, rows


async def rivals(
    candidates: Mapping[int, Candidate], chunks: Mapping[str, Chunk], filtering: Filtering, retriever: Retriever
) -> dict[int, Sequence[str]]:
    """For each candidate of which a relevant chunk is found: the chunks that are found before it."""
    if not candidates:
        return {}
    questions = [candidate.text for candidate in candidates.values()]
    found = await retriever.found(filtering.round_trip_model, chunks, questions, filtering.round_trip_depth)
    judged = await asyncio.to_thread(Relevance(chunks).of, list(candidates.values()))
    before: dict[int, Sequence[str]] = {}
    for place, ranking, relevant in zip(candidates, found, judged, strict=True):
        first = next((rank for rank, key in enumerate(ranking) if key in relevant), None)
        if first is not None:
            before[place] = ranking[:first]
    return before
