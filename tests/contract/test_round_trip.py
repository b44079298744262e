"""The round trip with a real model behind a real service: does it tell right pairs from wrong ones?"""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from embedscale.core.documents import Chunk
from embedscale.core.errors import ModelNotFound
from embedscale.core.generation import Candidate, Filtering, Reason
from embedscale.evaluator import builtin
from embedscale.evaluator.embedding_client import ClientTextEmbedder
from embedscale.evaluator.generation.filtering import filtered
from embedscale.evaluator.generation.filters.round_trip import Retriever
from embedscale.evaluator.index import build_index
from tests.conftest import MINILM

FILTERING = Filtering("en", round_trip_model=MINILM)


class Counting(ClientTextEmbedder):
    """Counts the texts that are embedded."""

    texts = 0

    async def embed(self, spec, texts, input_type):  # type: ignore[no-untyped-def]
        self.texts += len(texts)
        return await super().embed(spec, texts, input_type)


@pytest.fixture
async def retriever(embedder: str) -> AsyncIterator[Retriever]:
    client = Counting([embedder], patience_seconds=10)
    yield Retriever(client, build_index)
    await client.close()


def handbook() -> tuple[dict[str, Chunk], list[Candidate]]:
    dataset = builtin.load("builtin:velmar/en")
    ids = {key: f"{key}#0-{len(text)}" for key, text in dataset.documents()}
    chunks = {ids[key]: Chunk(key, 0, len(text), text, 0) for key, text in dataset.documents()}
    return chunks, [Candidate(text, tuple(ids[k] for k in dataset.qrels[q])) for q, text in dataset.queries()]


async def test_right_pairs_stay_and_wrong_ones_are_dropped(retriever: Retriever) -> None:
    chunks, right = handbook()
    far = [other.chunks for other in (right[len(right) // 2 :] + right[: len(right) // 2])]
    wrong = [replace(candidate, chunks=about) for candidate, about in zip(right, far, strict=True)]
    kept, swapped = [await filtered(pairs, chunks, FILTERING, retriever) for pairs in (right, wrong)]
    assert len(kept.kept) >= 0.8 * len(right)
    assert len(swapped.kept) <= 0.1 * len(wrong)
    assert {reason for _, reason in kept.dropped} == {reason for _, reason in swapped.dropped} == {Reason.ROUND_TRIP}
    off = replace(FILTERING, off=frozenset({Reason.ROUND_TRIP}))
    assert (await filtered(wrong, chunks, off, retriever)).kept == wrong
    assert retriever.embedder.texts == 2 * (len(chunks) + len(right))


async def test_a_chunk_that_is_found_before_is_shown_to_the_judge(retriever: Retriever) -> None:
    texts = {"a": "The market is on Friday, and it is large.", "b": "When is the market? The market is on Monday."}
    chunks = {f"{name}#0-{len(text)}": Chunk(name, 0, len(text), text, 9) for name, text in texts.items()}
    own, rival = chunks
    asked: list[str] = []

    async def kept(of_rival: str) -> int:
        async def ask(prompt: str) -> str:
            asked.append(prompt)
            return "Yes." if "Friday" in prompt else of_rival

        judged = replace(FILTERING, judge_model="judge")
        candidates = [Candidate("When is the market?", (own,))]
        return len((await filtered(candidates, chunks, judged, retriever, ask)).kept)

    assert [await kept("Yes."), await kept("no"), await kept("maybe")] == [0, 1, 1]
    assert [next(key for key in chunks if chunks[key].text in prompt) for prompt in asked] == [own, rival] * 3


async def test_an_unknown_model_is_named(retriever: Retriever) -> None:
    chunks, pairs = handbook()
    with pytest.raises(ModelNotFound):
        await filtered(pairs, chunks, replace(FILTERING, round_trip_model="nobody"), retriever)
