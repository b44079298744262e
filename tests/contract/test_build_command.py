"""`evalctl datasets build` against a real evaluator: one's own documents, one's own questions, no chat model."""

import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from embedscale.cli.errors import CommandFailed
from embedscale.cli.exit_codes import EXIT_USER
from embedscale.cli.question_files import read_questions
from embedscale.client import AsyncEvaluationClient, InvalidArgument
from embedscale.evaluator import bootstrap
from embedscale.evaluator.settings import EvaluatorSettings
from tests.conftest import served
from tests.contract.generation import PARAGRAPHS, write_documents
from tests.contract.test_generate_command import evalctl
from tests.fakes.hash_engine import HASH

HOW = ("--lang", "en", "--chunker", "paragraph", "--chunk-tokens", "24")
QUESTIONS = (
    "question,answer\n"
    "What does depot 2 store?,Depot 2 \n"
    '"Which is first, and why?","Depot 1 "\n'
    "What does each do?,depot\n"
)


@pytest.fixture
async def address(stack: AsyncExitStack, hasher: str, tmp_path: Path) -> str:
    write_documents(tmp_path / "documents", 2, 2)
    (tmp_path / "questions.csv").write_text(QUESTIONS)
    chosen = EvaluatorSettings(embedding_addresses=[hasher], dataset_roots=[tmp_path], data_folder=tmp_path / "state",
                               chunk_tokenizer=HASH, drain_seconds=0)  # fmt: skip
    return await served(stack, bootstrap.build(chosen), chosen)


async def build(folder: Path, address: str, *arguments: str) -> tuple[int, str, str]:
    where = ("--evaluation-address", address)
    return await evalctl("build", "documents", "--questions", *arguments, *HOW, *where, folder=folder)


async def test_a_set_is_built_and_its_folder_is_a_data_set(address: str, tmp_path: Path) -> None:
    code, out, err = await build(tmp_path, address, "questions.csv", "--to", "made", "-o", "json")
    assert code == 0, err
    made = json.loads(out)["dataset"]
    written = json.loads((tmp_path / "made" / "llama_index.json").read_text("utf-8"))
    relevant = {text: written["relevant_docs"][key] for key, text in written["queries"].items()}
    assert [len(relevant[line]) for line in ("What does depot 2 store?", "Which is first, and why?")] == [1, 1]
    assert len(relevant["What does each do?"]) == len(written["corpus"]) == 4
    async with AsyncEvaluationClient(address) as client:
        assert (await client.dataset(str(tmp_path / "made"))).digest == made["digest"]
    code, out, err = await build(tmp_path, address, "questions.csv")
    assert (code, err) == (0, "")
    assert f"next: evalctl run --model all-MiniLM-L6-v2 --dataset {made['uri']}" in out
    assert "2 documents in 4 chunks" in out


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "question;answer\nWhat?;That\n", "a.csv: the first line names no column 'question'"),
        ("b.csv", "question,answer\nWhat?,\n", "b.csv:2: the answer is empty"),
        ("c.csv", "question,answer\nWhat, then?,That\n", "c.csv:2: too many cells; put quotes around commas"),
        ("d.csv", "question,answer\n", "d.csv: no question"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(CommandFailed) as failed:
        read_questions(tmp_path / name)
    assert str(failed.value).endswith(said)
    assert failed.value.code == EXIT_USER


async def test_an_answer_that_is_in_no_chunk_is_named(address: str, tmp_path: Path) -> None:
    (tmp_path / "moon.tsv").write_text("question\tanswer\nWhat?\tThe moon, of course\n")
    code, out, err = await build(tmp_path, address, "moon.tsv")
    assert (code, out) == (2, "")
    assert "no chunk has its answer 'The moon, of course'" in err


async def test_what_is_for_chat_models_is_refused(address: str, tmp_path: Path) -> None:
    async with AsyncEvaluationClient(address) as client:
        for options, field in (({"model": "x"}, "model"), ({"seed": 3}, "seed"), ({"questions": [("", "a")]}, "text")):
            asked = {"questions": [("Which?", "Depot 1 ")], "language": "en", "chunking": PARAGRAPHS, **options}
            with pytest.raises(InvalidArgument, match=field):
                async for _ in client.generate_dataset([str(tmp_path / "documents")], **asked):
                    pass
