"""Reads the JSON layout of LlamaIndex's `EmbeddingQAFinetuneDataset`: queries, corpus, relevant_docs."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from embedscale.core.dataset import MemoryDataset
from embedscale.core.errors import DatasetInvalid

_TABLES = ("queries", "corpus", "relevant_docs")
_SHOWN_FAULTS = 3


def parse(uri: str, content: bytes) -> MemoryDataset:
    """Read and check a set. Raises DatasetInvalid that names its first faults and counts the rest."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DatasetInvalid(f"{uri}: not JSON: {error}", field="dataset") from None
    _refuse(uri, list(_shape_faults(document)))
    _refuse(uri, list(_content_faults(document)))
    qrels = {query: dict.fromkeys(ids, 1) for query, ids in document["relevant_docs"].items()}
    return MemoryDataset(uri=uri, query_texts=document["queries"], corpus=document["corpus"], qrels=qrels)


def _refuse(uri: str, faults: list[str]) -> None:
    if faults:
        rest = f" (and {len(faults) - _SHOWN_FAULTS} more)" if len(faults) > _SHOWN_FAULTS else ""
        raise DatasetInvalid(f"{uri}: {'; '.join(faults[:_SHOWN_FAULTS])}{rest}", field="dataset")


def _shape_faults(document: Any) -> Iterator[str]:
    if not isinstance(document, dict):
        yield "must be a JSON object with queries, corpus and relevant_docs"
        return
    for name in _TABLES:
        if not isinstance(document.get(name), dict):
            yield f"{name} is missing or not an object"
        elif not document[name]:
            yield f"{name} is empty"


def _content_faults(document: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    queries, corpus, relevant = (document[name] for name in _TABLES)
    for name, table in (("queries", queries), ("corpus", corpus)):
        for key, text in table.items():
            if not isinstance(text, str) or not text:
                yield f"{name}[{key!r}] is not a text, or empty"
            elif not (_is_unicode(key) and _is_unicode(text)):
                yield f"{name}[{key!r}] has half of a surrogate pair"
    yield from (f"relevant_docs lacks query {query!r}" for query in queries if query not in relevant)
    yield from (f"relevant_docs names unknown query {query!r}" for query in relevant if query not in queries)
    for query, ids in relevant.items():
        yield from _relevance_faults(query, ids, corpus)


def _relevance_faults(query: str, ids: Any, corpus: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(ids, list) or not ids:
        yield f"relevant_docs[{query!r}] is not a list of ids, or empty"
        return
    for document_id in ids:
        if not isinstance(document_id, str) or document_id not in corpus:
            yield f"relevant_docs[{query!r}] names unknown document {document_id!r}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
