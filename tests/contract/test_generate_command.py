"""`evalctl datasets generate` and `sample` against a real evaluator and a scripted endpoint."""

import asyncio
import csv
import json
import os
import pty
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from embedscale.client import AsyncEvaluationClient
from tests.contract.generation import evaluator_of, write_chat_models, write_documents
from tests.fakes.chat_endpoint import ChatEndpoint
from tests.fakes.hash_engine import HASH

CHUNKS = 4
HOW = ("--lang", "en", "--model", "writer", "--chunker", "paragraph", "--chunk-tokens", "24")


@pytest.fixture
async def where(stack: AsyncExitStack, hasher: str, tmp_path: Path, endpoint: ChatEndpoint) -> tuple[str, str]:
    models = write_chat_models(tmp_path / "chat.yaml", endpoint.url)
    address = await evaluator_of(stack, hasher, tmp_path, models, chunk_tokenizer=HASH)
    write_documents(tmp_path / "documents", 2, 2)
    return ("--evaluation-address", address)


async def evalctl(*arguments: str, folder: Path, stdin: int | None = None) -> tuple[int, str, str]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "embedscale.cli", "datasets", *arguments,
        stdin=asyncio.subprocess.DEVNULL if stdin is None else stdin, stdout=pipe, stderr=pipe, cwd=folder,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_a_set_is_made_written_sampled_and_imported_again(
    where: tuple[str, str], tmp_path: Path, endpoint: ChatEndpoint
) -> None:
    endpoint.by_words = {"Depot 2 ": "leak"}
    asked = ("generate", "documents", *HOW, "--yes", "--to", "made", "-o", "json", *where)
    code, out, err = await evalctl(*asked, folder=tmp_path)
    assert code == 0, err
    made = json.loads(out)
    assert made["questions"]["kept"] == made["dataset"]["query_count"] == 2 * (CHUNKS - 1)
    assert made["questions"]["dropped"]["context_leak"] == 2
    assert f"2 documents in {CHUNKS} chunks: {CHUNKS} prompts" in err
    assert [line.split()[0] for line in err.splitlines()[-4:]] == ["reading", "asking", "filtering", "writing"]

    llama = json.loads((tmp_path / "made" / "llama_index.json").read_text("utf-8"))
    assert len(llama["queries"]) == 6
    assert len(llama["corpus"]) == CHUNKS
    assert set(llama["relevant_docs"]) == set(llama["queries"])
    assert (tmp_path / "made" / "manifest.json").read_text("utf-8") == made["manifest"]
    with (tmp_path / "made" / "qrels" / "test.tsv").open() as table:
        assert len(list(csv.reader(table, delimiter="\t"))) == 7
    async with AsyncEvaluationClient(where[1]) as client:
        for path in ("llama_index.json", ""):
            assert (await client.dataset(str(tmp_path / "made" / path))).digest == made["dataset"]["digest"]

    uri = made["dataset"]["uri"]
    code, out, err = await evalctl("sample", uri, "-n", "3", "-o", "json", *where, folder=tmp_path)
    pairs = json.loads(out)["pairs"]
    assert len({pair["query_id"] for pair in pairs}) == 3
    for pair in pairs:
        assert pair["document"].startswith(f"Depot {pair['query'].rpartition('depot ')[2].rstrip('?')} ")
    assert len(json.loads((await evalctl("sample", uri, "-o", "json", *where, folder=tmp_path))[1])["pairs"]) == 6


async def test_the_table_says_what_became_of_the_questions(
    where: tuple[str, str], tmp_path: Path, endpoint: ChatEndpoint
) -> None:
    endpoint.by_words = {"Depot 3 ": "refusal", "Depot 2 ": "leak", "Depot 1 ": "more"}
    code, out, err = await evalctl("generate", "documents/*.txt", *HOW, "-y", *where, folder=tmp_path)
    assert code == 0, err
    rows = {" ".join(line.split()[:-1]): line.split()[-1] for line in out.split("\n\n")[0].splitlines()}
    assert (rows["written"], rows["dropped: context leak"], rows["kept"]) == ("6", "2", "4")
    assert (rows["answers refused"], rows["more than asked for"]) == ("1", "2")
    assert "next: evalctl run --model all-MiniLM-L6-v2 --dataset dataset:" in out


async def test_nothing_is_asked_for_unless_somebody_agrees(
    where: tuple[str, str], tmp_path: Path, endpoint: ChatEndpoint
) -> None:
    code, out, err = await evalctl("generate", "documents", *HOW, *where, folder=tmp_path)
    assert (code, out, endpoint.calls) == (2, "", 0)
    assert err.endswith("evalctl: nobody can be asked whether to start here: give --yes\n")
    for answer, calls, expected in ((b"n\n", 0, 130), (b"y\n", CHUNKS, 0)):
        terminal, stdin = pty.openpty()
        os.write(terminal, answer)
        code, out, err = await evalctl("generate", "documents", *HOW, *where, folder=tmp_path, stdin=stdin)
        os.close(terminal)
        os.close(stdin)
        assert (code, endpoint.calls) == (expected, calls), err
        assert "Start? [y/N]" in err


async def test_the_spending_limit_is_one_line_that_says_what_to_do(
    where: tuple[str, str], tmp_path: Path, endpoint: ChatEndpoint
) -> None:
    asked = ("generate", "documents", *HOW, "--yes", *where)
    code, _, err = await evalctl(*asked, "--spending-limit", "0.0001", folder=tmp_path)
    assert (code, endpoint.calls) == (2, 0)
    assert err.splitlines()[-1].startswith("evalctl: the data set would cost more than its spending limit, 0.0001")
    assert (await evalctl(*asked, "--spending-limit", "1", folder=tmp_path))[0] == 0


async def test_what_is_wrong_is_said_in_a_line(where: tuple[str, str], tmp_path: Path) -> None:
    faults = {
        ("--lang", "tlh"): "there are prompts for",
        ("--model", "nobody"): "is not a chat model",
        ("--judge", "nobody"): "is not a chat model",
        ("--overlap", "24"): "chunking.overlap_tokens",
    }
    asked = ("generate", "documents", *HOW, "-y", *where)
    answers = await asyncio.gather(*(evalctl(*asked, *changed, folder=tmp_path) for changed in faults))
    for (code, out, err), words in zip(answers, faults.values(), strict=True):
        assert (code, out) == (2, "")
        assert words in err.splitlines()[-1]


async def test_a_name_that_no_request_can_hold_is_refused_in_a_line(where: tuple[str, str], tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    code, out, err = await evalctl("generate", name, *HOW, "-y", *where, folder=tmp_path)
    assert (code, out) == (2, "")
    assert err == r"evalctl: 'caf\udce9.txt': the name is not UTF-8" "\n"
