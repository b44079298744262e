"""An evaluator that is killed while it makes a set, and started again: nothing is paid twice, and nothing differs."""

import asyncio
import contextlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from embedscale.client import AsyncEvaluationClient, ClientError
from embedscale.v1 import evaluation_service_pb2 as pb
from tests.contract.generation import content, evaluator_of, generated, write_chat_models, write_documents
from tests.fakes.chat_endpoint import ChatEndpoint
from tests.fakes.hash_engine import HASH

KILLS = 3
CONCURRENCY = 4
DOCUMENTS, PARAGRAPHS = 4, 15
WORDS_OF_PARAGRAPH = pb.Chunking(kind=pb.CHUNKER_KIND_PARAGRAPH, tokenizer=HASH, max_tokens=24)


class Evaluator:
    """A real process, which is killed and started again over the same folder."""

    def __init__(self, folder: Path, readable: Path, address: str, chat_models: Path) -> None:
        self._folder = folder
        self._port_file = folder / "port"
        self._command = [
            sys.executable, "-m", "embedscale.evaluator", "--embedding-addresses", address,
            "--dataset-roots", str(readable), "--data-folder", str(folder), "--chat-models-file", str(chat_models),
            "--port-file", str(self._port_file),
        ]  # fmt: skip
        folder.mkdir()

    async def start(self) -> str:
        self._port_file.unlink(missing_ok=True)
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not self._port_file.exists():
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        return f"127.0.0.1:{self._port_file.read_text()}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    return write_documents(tmp_path / "documents", DOCUMENTS, PARAGRAPHS)


@pytest.fixture
def chat_models(tmp_path: Path, endpoint: ChatEndpoint) -> Path:
    return write_chat_models(tmp_path / "chat.yaml", endpoint.url, concurrency=CONCURRENCY)


@pytest.fixture
def evaluator(hasher: str, tmp_path: Path, documents: Path, chat_models: Path) -> Iterator[Evaluator]:
    made = Evaluator(tmp_path / "killed", documents, hasher, chat_models)
    yield made
    made.kill()


async def made(address: str, documents: Path) -> pb.GenerateDatasetResponse:
    async with AsyncEvaluationClient(address) as client:
        return (await generated(client, [documents], chunking=WORDS_OF_PARAGRAPH))[-1]


async def written(address: str, uri: str) -> tuple[dict, dict, dict]:
    async with AsyncEvaluationClient(address) as client:
        return await content(client, uri)


async def killed_on_the_way(
    evaluator: Evaluator, endpoint: ChatEndpoint, documents: Path, chance: random.Random
) -> None:
    """Ask for the set, and kill the evaluator at some moment after some answers."""
    address = await evaluator.start()
    enough = endpoint.calls + chance.randint(2 * CONCURRENCY, 3 * CONCURRENCY)

    async def ask() -> None:
        async with AsyncEvaluationClient(address) as client:
            await generated(client, [documents], chunking=WORDS_OF_PARAGRAPH)

    asking = asyncio.create_task(ask())
    while endpoint.calls < enough:
        assert not asking.done()
        await asyncio.sleep(0.01)
    await asyncio.sleep(chance.uniform(0, endpoint.seconds))
    evaluator.kill()
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError, ClientError):
        await asking


async def test_a_killed_evaluator_goes_on_where_it_was(
    stack: AsyncExitStack, hasher: str, tmp_path: Path, endpoint: ChatEndpoint, documents: Path, chat_models: Path,
    evaluator: Evaluator,
) -> None:  # fmt: skip
    prompts = DOCUMENTS * PARAGRAPHS
    undisturbed = await evaluator_of(stack, hasher, tmp_path, chat_models)
    expected = await made(undisturbed, documents)
    expected_content = await written(undisturbed, expected.dataset.uri)
    assert (len(endpoint.answered), set(endpoint.answered.values())) == (prompts, {1})
    endpoint.answered.clear()

    endpoint.seconds, chance = 0.15, random.Random(8)
    in_flight: set[str] = set()
    for _ in range(KILLS):
        await killed_on_the_way(evaluator, endpoint, documents, chance)
        in_flight |= set(endpoint.asked[-CONCURRENCY:])
        await asyncio.sleep(2 * endpoint.seconds)  # what was in flight is answered, to nobody
        assert len(endpoint.answered) < prompts
    address = await evaluator.start()
    result = await made(address, documents)

    assert (result.dataset.digest, result.manifest) == (expected.dataset.digest, expected.manifest)
    assert await written(address, result.dataset.uri) == expected_content
    twice = {prompt for prompt, count in endpoint.answered.items() if count > 1}
    print(f"{prompts} prompts, {KILLS} kills with {CONCURRENCY} calls in flight at most, {len(twice)} answered twice")
    assert len(endpoint.answered) == prompts
    # A call whose answer had not been kept when the process died is the only one that is made again.
    assert twice <= in_flight
    assert sum(endpoint.answered.values()) - prompts <= KILLS * CONCURRENCY
    assert result.usage.kept_answers > 0
    assert result.usage.kept_answers + result.usage.calls == prompts
