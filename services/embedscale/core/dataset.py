"""A question/answer set: queries, the corpus they search, and how well each document answers each query."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

Judgements = Mapping[str, int]
"""Grades by document id: above 0 relevant, the higher the better; documents that are not named are not relevant."""

UNDETERMINED = "und"
"""BCP 47 tag of a text in no language that could be told."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long texts are, in characters or tokens; all 0 where there are none."""

    mean: float = 0.0
    median: int = 0
    p95: int = 0
    maximum: int = 0

    @classmethod
    def of(cls, values: ArrayLike) -> "Lengths":
        """Sum up one length a text."""
        lengths = np.asarray(values)
        if not lengths.size:
            return cls()
        median, p95 = np.quantile(lengths, [0.5, 0.95], method="inverted_cdf")
        return cls(float(lengths.mean()), int(median), int(p95), int(lengths.max()))


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
    unanswered_count: int = 0
    """Queries without a relevant document: they are kept, and score 0."""
    query_characters: Lengths = Lengths()
    document_characters: Lengths = Lengths()
    skipped: Mapping[str, int] = field(default_factory=dict)
    """What a lenient import left out, counted by the kind of fault."""
    source: str = ""
    """URI that an imported set was read from."""


class FaultKind(StrEnum):
    """What can be wrong in a set."""

    BAD_ENCODING = "bad_encoding"
    BAD_JSON = "bad_json"
    WRONG_TYPE = "wrong_type"
    EMPTY_TEXT = "empty_text"
    MISSING_HEADER = "missing_header"
    DUPLICATE_ID = "duplicate_id"
    DUPLICATE_JUDGEMENT = "duplicate_judgement"
    DANGLING_JUDGEMENT = "dangling_judgement"
    MISSING_JUDGEMENT = "missing_judgement"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, at a file and line or, inside one JSON document, at a path."""

    kind: FaultKind
    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class Dataset(Protocol):
    """A checked set that may be larger than memory. It has queries and documents; a query may have no judgement."""

    @property
    def card(self) -> DatasetCard:
        """What it is; may hash all of the content, so not for the event loop."""

    def documents(self) -> Iterator[tuple[str, str]]:
        """Id and text of each document, always in the same order."""

    def queries(self) -> Iterator[tuple[str, str]]:
        """Id and text of each query, always in the same order."""

    def judgements(self, query_ids: Sequence[str]) -> list[Judgements]:
        """Judgements of each query named."""

    def texts(self, document_ids: Sequence[str]) -> list[str]:
        """Text of each document named."""


@dataclass(frozen=True)
class Imported:
    """A data set taken in, and the first of the faults that were left out of it; its card counts them all."""

    dataset: Dataset
    faults: Sequence[Fault] = ()


class ContentDigest:
    """SHA-256 over a set's rows: all documents by id, then all queries by id, then all judgements by both ids.

    Each part of a row is hashed as its UTF-8 bytes after their number, so that no two sets write the same bytes.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, kind: str, *parts: str) -> None:
        """Add the next row."""
        for raw in map(str.encode, (kind, *parts)):
            self._hash.update(b"%d:" % len(raw))
            self._hash.update(raw)

    def hexdigest(self) -> str:
        """Return 64 hexadecimal digits."""
        return self._hash.hexdigest()


def unanswered(qrels: Iterable[Judgements]) -> int:
    """How many queries have no relevant document."""
    return Counter(any(grade > 0 for grade in judged.values()) for judged in qrels)[False]


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
            unanswered_count=unanswered(self.qrels.get(query, {}) for query in self.query_texts),
            query_characters=Lengths.of([len(text) for text in self.query_texts.values()]),
            document_characters=Lengths.of([len(text) for text in self.corpus.values()]),
        )

    def documents(self) -> Iterator[tuple[str, str]]:
        """See `Dataset`."""
        return iter(self.corpus.items())

    def queries(self) -> Iterator[tuple[str, str]]:
        """See `Dataset`."""
        return iter(self.query_texts.items())

    def judgements(self, query_ids: Sequence[str]) -> list[Judgements]:
        """See `Dataset`."""
        return [self.qrels.get(query, {}) for query in query_ids]

    def texts(self, document_ids: Sequence[str]) -> list[str]:
        """See `Dataset`."""
        return [self.corpus[document] for document in document_ids]

    def _digest(self) -> str:
        digest = ContentDigest()
        for kind, table in (("document", self.corpus), ("query", self.query_texts)):
            for key in sorted(table):
                digest.add(kind, key, table[key])
        for query in sorted(self.qrels):
            for document, grade in sorted(self.qrels[query].items()):
                digest.add("judgement", query, document, str(grade))
        return digest.hexdigest()
