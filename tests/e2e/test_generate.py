"""A set from documents on a cluster of this machine, whose home names the chat models, and an evaluation of it."""

import json
from pathlib import Path

from tests.contract.generation import write_chat_models, write_documents
from tests.e2e.evalctl import Evalctl
from tests.fakes.chat_endpoint import running


def test_a_cluster_finds_chat_models_in_its_home(alone: Evalctl, tmp_path: Path) -> None:
    documents = write_documents(tmp_path / "documents", 2, 4)
    with running() as endpoint:
        write_chat_models(alone.home / "chat-models.yaml", endpoint.url)
        started = alone("up", "--detach", "--model", "all-MiniLM-L6-v2")
        assert started.returncode == 0, started.stderr
        try:
            asked = ("datasets", "generate", str(documents), "--lang", "en", "--model", "writer", "--yes", "-o", "json")
            how = ("--chunker", "paragraph", "--chunk-tokens", "45", "--tokenizer", "all-MiniLM-L6-v2")
            done = alone(*asked, *how)
            assert done.returncode == 0, done.stderr
            made = json.loads(done.stdout)
            assert (made["questions"]["kept"], endpoint.calls) == (16, 8)
            ran = alone("run", "--model", "all-MiniLM-L6-v2", "--dataset", made["dataset"]["uri"], "-o", "json")
            assert ran.returncode == 0, ran.stderr
            assert made["dataset"]["uri"] in ran.stdout
            without = alone(*asked)  # counts tokens with a model that the cluster has
            assert without.returncode == 0, without.stderr
            assert json.loads(without.stdout)["questions"]["kept"] == 4
        finally:
            alone("down")
        alone.wait_until_gone()
