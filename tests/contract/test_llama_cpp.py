"""llama.cpp's server against our own embedder: the same weights must give the same vectors."""

import uuid

import numpy as np
import pytest

from embedscale.client import AsyncEmbeddingClient, InvalidArgument
from tests.conftest import MINILM
from tests.contract.conftest import LLAMA

# Not Korean, which its tokenizer does not decompose, nor words of more than 100 letters, which it does not give up on.
TEXTS = [
    "What is MRR?",
    "Mean reciprocal rank of the first relevant document.",
    "Žluťoučký kůň úpěl ďábelské ódy.",
    "Árvíztűrő tükörfúrógép",
    "Où est la bibliothèque municipale ?",
    "שלום עולם",
    "e\u0301" * 50,
    "What is MRR?",
    "word " * 200,
]


async def test_vectors_are_those_of_the_embedder(embedder: str, llama_cpp: str) -> None:
    async with AsyncEmbeddingClient([embedder, llama_cpp]) as client:
        ours = await client.embed(TEXTS, model=MINILM)
        theirs = await client.embed(TEXTS, model=LLAMA)
    cosines = (ours.vectors * theirs.vectors).sum(axis=1)
    assert cosines.min() >= 0.999
    np.testing.assert_array_equal(theirs.vectors[0], theirs.vectors[7])
    assert ours.fingerprint != theirs.fingerprint


async def test_both_refuse_a_text_beyond_256_tokens(embedder: str, llama_cpp: str) -> None:
    fitting, too_long = f"{uuid.uuid4().hex[:2]} {'word ' * 240}", "word " * 260
    async with AsyncEmbeddingClient([embedder, llama_cpp]) as client:
        for model in (MINILM, LLAMA):
            assert (await client.embed([fitting], model=model)).vectors.shape == (1, 384)
            with pytest.raises(InvalidArgument):
                await client.embed([fitting, too_long], model=model)
