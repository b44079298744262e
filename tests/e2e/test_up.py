"""What `evalctl up` is told: ports, OpenAI's API, one model in place of two, and chat models by a file in its home."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest

from tests.conftest import E5, MINILM, free_port, home_with_models
from tests.contract.generation import write_chat_models, write_documents
from tests.e2e.evalctl import PORTS, Evalctl, up
from tests.fakes.chat_endpoint import ChatEndpoint, running


@dataclass
class Told:
    """A cluster that was told all of it, what `up` said, and the endpoint of its chat models."""

    evalctl: Evalctl
    ports: dict[str, int]
    said: str
    endpoint: ChatEndpoint


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    evalctl = Evalctl(home_with_models(tmp_path_factory.mktemp("home")))
    ports = {option: free_port() for option in PORTS}
    with running() as endpoint:
        write_chat_models(evalctl.home / "chat-models.yaml", endpoint.url)
        with up(evalctl, "--model", MINILM, *(f"{option}={port}" for option, port in ports.items())) as said:
            yield Told(evalctl, ports, said, endpoint)


def test_chosen_ports_are_used(told: Told) -> None:
    assert set(told.ports.values()) <= told.evalctl.ports()


def test_openai_s_api_has_every_model(told: Told) -> None:
    url = f"http://127.0.0.1:{told.ports['--openai-port']}/v1"
    assert f"OpenAI's API: {url}" in told.said
    with openai.OpenAI(base_url=url, api_key="none") as client:
        names = [model.id for model in client.models.list()]
        assert names == [MINILM, f"{E5}:query", f"{E5}:document"]
        for name in names:
            assert len(client.embeddings.create(model=name, input="What is MRR?").data[0].embedding) == 384


def test_chat_models_of_the_home_write_a_set_and_it_is_evaluated(told: Told, tmp_path: Path) -> None:
    before = told.endpoint.calls
    made = generated(told, tmp_path, "--chunker", "paragraph", "--chunk-tokens", "45", "--tokenizer", MINILM)
    assert (made["questions"]["kept"], told.endpoint.calls - before) == (16, 8)
    ran = told.evalctl("run", "--model", MINILM, "--dataset", made["dataset"]["uri"], "-o", "json")
    assert ran.returncode == 0, ran.stderr
    assert made["dataset"]["uri"] in ran.stdout


def test_chunks_are_counted_with_a_model_that_the_cluster_has(told: Told, tmp_path: Path) -> None:
    assert generated(told, tmp_path)["questions"]["kept"] == 4


def generated(told: Told, folder: Path, *how: str) -> dict:
    """What `datasets generate` says of a set that it made of eight paragraphs in two documents."""
    documents = write_documents(folder / "documents", 2, 4)
    asked = ("datasets", "generate", str(documents), "--lang", "en", "--model", "writer", "--yes", "-o", "json")
    done = told.evalctl(*asked, *how)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
