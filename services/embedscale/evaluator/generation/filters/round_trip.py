"""Questions whose chunk an embedding model does not find again.

That a model puts another chunk first does not count against a question: it says as much of the model, and a set of the
questions that one model answers best would flatter it. Such a chunk is shown to the judge, where there is one.
"""

import asyncio
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np

from embedscale.core.documents import Chunk
from embedscale.core.embedding import InputType, Matrix
from embedscale.core.evaluation import EvaluationSpec
from embedscale.core.generation import Candidate, Filtering
from embedscale.core.ordered import in_order
from embedscale.core.ports import BuildIndex, TextEmbedder
from embedscale.core.vector_index import IndexSpec
from embedscale.evaluator.blocks import Block, Blocks
from embedscale.evaluator.generation.relevance import Relevance
from embedscale.evaluator.pipeline import BLOCKS_AHEAD, FIRST_BLOCK
from embedscale.evaluator.retrieval import Retrieval


@dataclass(frozen=True)
class Retriever:
    """Finds the chunks of questions by exact search, through an embedding service."""

    embedder: TextEmbedder
    build_index: BuildIndex

    async def found(
        self, model: str, chunks: Mapping[str, Chunk], questions: Sequence[str], depth: int
    ) -> list[list[str]]:
        """Ids of the first `depth` chunks for each question, the best first. Texts are cut at the model's limit."""
        spec = EvaluationSpec(model, "")
        corpus = await self._embedded(spec, ((key, chunk.text) for key, chunk in chunks.items()), InputType.DOCUMENT)
        queries = await self._embedded(spec, (("", question) for question in questions), InputType.QUERY)
        return await asyncio.to_thread(self._ranked, corpus, list(chunks), queries, depth)

    def _ranked(self, corpus: Matrix, ids: Sequence[str], queries: Matrix, depth: int) -> list[list[str]]:
        index = self.build_index(IndexSpec(), corpus, threading.Event())
        retrieval = Retrieval(ids, depth)
        found: list[list[str]] = []
        for start in range(0, len(queries), FIRST_BLOCK[InputType.QUERY]):
            part = queries[start : start + FIRST_BLOCK[InputType.QUERY]]
            rankings = retrieval.rankings(index, [""] * len(part), part)
            found += [[key for key, _ in ranking] for ranking in rankings]
        return found

    async def _embedded(self, spec: EvaluationSpec, texts: Iterable[tuple[str, str]], input_type: InputType) -> Matrix:
        async def embed(block: Block) -> Matrix:
            return (await self.embedder.embed(spec, [text for _, text in block], input_type)).vectors

        blocks = Blocks(FIRST_BLOCK[input_type]).of(iter(texts))
        async with aclosing(in_order(embed, blocks, BLOCKS_AHEAD)) as answers:
            return np.vstack([vectors async for vectors in answers])


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
