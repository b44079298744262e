"""A question/answer set: queries, the corpus they search, and how well each document answers each query."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

Judgements = Mapping[str, int]
"""Grades by document id: above 0 relevant, the higher the better; documents that are not named are not relevant."""


@dataclass(frozen=True, slots=True)
class DatasetCard:
    """What is known of a set without reading its texts; `digest` is the same for equal content wherever it lies."""

    uri: str
    digest: str
    query_count: int
    document_count: int
    title: str = ""
    languages: tuple[str, ...] = ()
    license: str = ""


class Dataset(Protocol):
    """A checked set that may be larger than memory: it has documents, and queries with at least one judgement each."""

    @property
    def card(self) -> DatasetCard:
        """What it is; may hash all of the content, so not for the event loop."""

    def documents(self) -> Iterator[tuple[str, str]]:
        """Id and text of each document, always in the same order."""

    def queries(self) -> Iterator[tuple[str, str]]:
        """Id and text of each query, always in the same order."""

    def judgements(self, query_ids: Sequence[str]) -> list[Judgements]:
        """Judgements of each query named."""


@dataclass(frozen=True)
class MemoryDataset:
    """A small `Dataset`, whole in memory. All ids are strings."""

    uri: str
    query_texts: Mapping[str, str]
    corpus: Mapping[str, str]
    qrels: Mapping[str, Judgements]
    title: str = ""
    languages: tuple[str, ...] = ()
    license: str = ""

    @cached_property
    def card(self) -> DatasetCard:
        """See `Dataset`."""
        return DatasetCard(
            uri=self.uri,
            digest=self._digest(),
            query_count=len(self.query_texts),
            document_count=len(self.corpus),
            title=self.title,
            languages=self.languages,
            license=self.license,
        )

    def documents(self) -> Iterator[tuple[str, str]]:
        """See `Dataset`."""
        return iter(self.corpus.items())

    def queries(self) -> Iterator[tuple[str, str]]:
        """See `Dataset`."""
        return iter(self.query_texts.items())

    def judgements(self, query_ids: Sequence[str]) -> list[Judgements]:
        """See `Dataset`."""
        return [self.qrels[query] for query in query_ids]

    def _digest(self) -> str:
        """SHA-256 over the content as canonical JSON, 64 hexadecimal digits."""
        content = {"corpus": self.corpus, "queries": self.query_texts, "qrels": self.qrels}
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()
