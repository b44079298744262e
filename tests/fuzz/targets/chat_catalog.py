"""A catalog of language models: valid, and then it reads back the same, or one error with the place of each fault."""

import json
import tempfile
from pathlib import Path
from random import Random

from embedscale.evaluator.generation.chat_catalog import read_chat_models
from embedscale.servicekit.settings import BadConfiguration
from tests.fuzz.yaml_files import mutated_yaml

_FILE = Path(tempfile.mkdtemp(prefix="fuzz-"), "chat.yaml")


def check(data: bytes) -> None:
    _FILE.write_bytes(data)
    try:
        models = read_chat_models(_FILE)
    except BadConfiguration as error:
        assert str(error).startswith(f"{_FILE}: ")
        return
    content = {"models": {name: model.model_dump(mode="json") for name, model in models.items()}}
    _FILE.write_text(json.dumps(content), "utf-8")
    assert read_chat_models(_FILE) == models
    for name, model in models.items():
        assert model.info(name).name == name


def mutate(data: bytes, pick: Random) -> bytes | None:
    return mutated_yaml(data, pick)
