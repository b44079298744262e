"""`python -m embedscale.embedder.fetch`: brings models from the hub to a shared folder before servers start.

The folder is the hub's cache, in $HF_HOME. `--wait` fetches nothing, and ends when all models are there.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from embedscale.embedder.weights import WeightsError, file_digests, locate
from embedscale.embedding.catalog import Catalog, CatalogError, LocalModel, load_catalog
from embedscale.servicekit.settings import EXIT_BAD_SETTINGS

_PAUSE_SECONDS = 2.0


def main() -> None:
    """Fetch, or wait; exits with 1 when a model cannot be had, and with 2 when it is not in the catalog."""
    parser = argparse.ArgumentParser("fetch", description="Fetch models of the catalog from the hub, at their pins.")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="Name in the catalog.")
    parser.add_argument("--wait", action="store_true", help="Only wait until another process has fetched them.")
    given = parser.parse_args()
    path = os.environ.get("EMBEDSCALE_CATALOG")
    try:
        for name, model in hub_models(load_catalog(Path(path) if path else None), given.models).items():
            (_wait if given.wait else _fetch)(name, model)
    except CatalogError as error:
        sys.stderr.write(f"fetch: {error}\n")
        raise SystemExit(EXIT_BAD_SETTINGS) from None
    except WeightsError as error:
        sys.stderr.write(f"fetch: {error}\n")
        raise SystemExit(1) from None


def hub_models(catalog: Catalog, names: Sequence[str]) -> dict[str, LocalModel]:
    """Those of the models that come from the hub. Raises CatalogError if one is not a local model."""
    local = catalog.local_models(names)
    return {name: local[name] for name in names if local[name].source.hub}


def _fetch(name: str, model: LocalModel) -> None:
    if _is_there(model):
        _say(f"{name} is there")
        return
    folder = locate(model.source)
    if model.trust_remote_code:
        for repository in code_repositories(folder, str(model.source.hub)):
            _fetch_code(repository, str(model.code_revision))
    file_digests(folder, model)
    marker = _marker(model)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    _say(f"{name} is fetched: {model.source.hub}@{model.source.revision}")


def _wait(name: str, model: LocalModel) -> None:
    while not _is_there(model):
        _say(f"waiting for {name}")
        time.sleep(_PAUSE_SECONDS)


def code_repositories(folder: Path, own: str) -> set[str]:
    """Repositories of the hub that a model's code is in: `auto_map` names others as REPOSITORY--MODULE.CLASS."""
    places = json.loads((folder / "config.json").read_text("utf-8")).get("auto_map", {}).values()
    return {place.partition("--")[0] if "--" in place else own for place in places if isinstance(place, str)}


def _fetch_code(repository: str, revision: str) -> None:
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(repository, revision=revision, allow_patterns=["*.py"])
    except OSError as error:  # what the hub's own errors are
        raise WeightsError(f"{repository}@{revision} could not be fetched: {type(error).__name__}") from error


def _is_there(model: LocalModel) -> bool:
    return _marker(model).exists()


def _marker(model: LocalModel) -> Path:
    """A file that is there once all others are: the hub's cache shows a model from its first file on."""
    from huggingface_hub.constants import HF_HOME

    name = f"{model.source.hub}@{model.source.revision}+{model.code_revision or ''}"
    return Path(HF_HOME) / "embedscale" / name.replace("/", "--")


def _say(message: str) -> None:
    sys.stdout.write(f"{message}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
