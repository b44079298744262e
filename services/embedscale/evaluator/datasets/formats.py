"""Recognises the format of a data set by its files and what is in them."""

import json
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from embedscale.core.errors import DatasetInvalid
from embedscale.evaluator.datasets import beir_format, jsonl_format, llama_index_format, squad_format
from embedscale.evaluator.datasets.files import Files, SourceFile
from embedscale.evaluator.datasets.intake import Intake, is_text
from embedscale.evaluator.datasets.json_stream import BadJson, JsonStream
from embedscale.servicekit.yaml_files import NotYaml, read_yaml

KNOWN = (
    "LlamaIndex JSON (queries, corpus, relevant_docs), SQuAD JSON (data), JSON lines (query, positives), "
    "or a folder or zip with corpus, queries and qrels"
)
_FIRST_BYTES = 2**20
_README = "README.md"

ReadDocument = Callable[[JsonStream, str, Intake], None]


def read(uri: str, files: Files, options: Mapping[str, str], intake: Intake) -> None:
    """Put everything into the intake. Raises DatasetInvalid for what cannot be read at all."""
    if _README in files:
        _describe(files[_README], intake)
    if found := beir_format.tables(files):
        beir_format.read(uri, found, options, intake)
        return
    data = [file for file in files.values() if file.name != _README]
    if len(data) != 1:
        raise DatasetInvalid(f"{uri}: of {len(data)} files none is a corpus; there is {KNOWN}", field="dataset")
    _read_file(uri, data[0], intake)


def _read_file(uri: str, file: SourceFile, intake: Intake) -> None:
    with file.open() as opened:
        start = opened.read(_FIRST_BYTES)
    if file.name.endswith(".jsonl") or _is_json_line(start):
        jsonl_format.read(file, intake)
        return
    try:
        read_document = _document_format(file)
        if not read_document:
            raise DatasetInvalid(f"{uri}: an unknown format; there is {KNOWN}", field="dataset")
        with file.open() as opened:
            read_document(JsonStream(opened), file.name, intake)
    except BadJson as error:
        raise DatasetInvalid(f"{uri}: not JSON: {error}", field="dataset") from None


def _is_json_line(start: bytes) -> bool:
    """Whether the first line that is not empty is an object of its own, with a query."""
    try:
        row = json.loads(start.lstrip().partition(b"\n")[0])
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and "query" in row


def _document_format(file: SourceFile) -> ReadDocument | None:
    """Look at the first keys. Raises BadJson."""
    with file.open() as opened:
        stream = JsonStream(opened)
        if stream.peek() != "{":
            stream.value()
            return None
        for key in stream.members():
            if key in llama_index_format.TABLES:
                return llama_index_format.read
            if key == "data":
                return squad_format.read
            stream.value()
        stream.finish()
    return None


def _describe(readme: SourceFile, intake: Intake) -> None:
    """Take languages, licence and title from the card's YAML, where there is one."""
    with readme.open() as opened:
        lines = opened.read(_FIRST_BYTES).decode("utf-8", "replace").splitlines()
    if lines[:1] != ["---"] or "---" not in lines[1:]:
        return
    try:
        card = read_yaml("\n".join(islice(lines, 1, lines.index("---", 1))))
    except NotYaml:
        return
    if isinstance(card, dict):
        intake.languages = tuple(_texts(card.get("language")))
        intake.license = ", ".join(_texts(card.get("license")))
        intake.title = " ".join(_texts(card.get("pretty_name")))


def _texts(value: Any) -> list[str]:
    """The texts in a field; all else is passed over: written out, what a few aliases nest may be larger than memory."""
    return [one for one in (value if isinstance(value, list) else [value]) if is_text(one) and one]
