"""A catalog of models: valid, and then it reads back the same, or one error with the place of each fault."""

import json
import tempfile
from pathlib import Path
from random import Random

from embedscale.embedding.catalog import CatalogError, load_catalog
from tests.fuzz.yaml_files import mutated_yaml

_FILE = Path(tempfile.mkdtemp(prefix="fuzz-"), "models.yaml")
_SHIPPED = load_catalog()


def check(data: bytes) -> None:
    _FILE.write_bytes(data)
    try:
        catalog = load_catalog(_FILE)
    except CatalogError as error:
        assert str(error).startswith(("models.", "upstreams.", f"{_FILE}: "))
        return
    assert _SHIPPED.models.keys() <= catalog.models.keys()
    _FILE.write_text(json.dumps(catalog.model_dump(mode="json")), "utf-8")
    assert load_catalog(_FILE) == catalog


def mutate(data: bytes, pick: Random) -> bytes | None:
    return mutated_yaml(data, pick)
