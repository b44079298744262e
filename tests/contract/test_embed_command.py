"""`evalctl embed` against a real server."""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np

from embedscale.client import AsyncEmbeddingClient
from tests.fakes.hash_engine import HASH


async def test_vectors_are_printed_and_written_in_the_encoding_that_is_asked_for(hasher: str, tmp_path: Path) -> None:
    async with AsyncEmbeddingClient([hasher]) as client:
        expected = (await client.embed(["one", "two"], model=HASH, input_type="document", encoding="binary")).vectors
    asked = ("--model", HASH, "--embedding-address", hasher, "--encoding", "binary", "-o", "json")
    file = tmp_path / "vectors.npy"
    printed, told = await asyncio.gather(
        evalctl(*asked, "one", "two"), evalctl(*asked, "--out", str(file), "one", "two")
    )
    np.testing.assert_array_equal([row["embedding"] for row in json.loads(printed)["embeddings"]], expected)
    np.testing.assert_array_equal(np.load(file), expected)
    assert (expected.shape, json.loads(told)["dimensions"]) == ((2, 48), 384)


async def evalctl(*arguments: str) -> bytes:
    command = [sys.executable, "-m", "embedscale.cli", "embed", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out
