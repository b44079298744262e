"""The data set that ships with Embedscale: one invented handbook in five languages, parallel passage by passage."""

import json
from dataclasses import replace
from functools import cache
from importlib import resources

from embedscale.core.dataset import MemoryDataset
from embedscale.core.errors import DatasetNotFound

SCHEME = "builtin:"
LANGUAGES = ("en", "fr", "cs", "hu", "ko")
_FOLDER = resources.files("embedscale.evaluator") / "data" / "velmar"


def known() -> list[str]:
    """URIs of the sets whose questions and passages are in the same language."""
    return [f"{SCHEME}velmar/{language}" for language in LANGUAGES]


@cache
def load(uri: str) -> MemoryDataset:
    """Load `builtin:velmar/hu`, or `builtin:velmar/hu-en` for Hungarian questions on the English corpus."""
    name, _, pair = uri.removeprefix(SCHEME).partition("/")
    asked, crossed, searched = pair.partition("-")
    searched = searched if crossed else asked
    if name != "velmar" or not {asked, searched} <= set(LANGUAGES):
        hint = f"{SCHEME}velmar/LANGUAGE or LANGUAGE-LANGUAGE (questions, then corpus) of {', '.join(LANGUAGES)}"
        raise DatasetNotFound(f"no built-in data set {uri!r}: there is {hint}", field="dataset")
    dataset = replace(_read(searched), query_texts=_read(asked).query_texts, uri=uri)
    return replace(dataset, languages=tuple(dict.fromkeys((asked, searched))))


@cache
def _read(language: str) -> MemoryDataset:
    content = json.loads(_FOLDER.joinpath(f"{language}.json").read_text("utf-8"))
    return MemoryDataset(
        uri=f"{SCHEME}velmar/{language}",
        query_texts=content["queries"],
        corpus=content["corpus"],
        qrels={query: dict.fromkeys(ids, 1) for query, ids in content["relevant_docs"].items()},
        title="Residents' handbook of Velmar",
        license="CC0-1.0",
    )
