"""A team's own documents, and the chunks that they are cut into."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading: where its line begins in the text, in characters, how deep it is, from 1, and what it says."""

    start: int
    level: int
    title: str


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """A document as it was read: its text without markup, and the headings in it, by position.

    `id` is where it was found, relative to the folder or URL that was asked for, unique among all that are read.
    """

    id: str
    text: str
    headings: tuple[Heading, ...] = ()


class ChunkerKind(StrEnum):
    """Where a text may be cut."""

    SENTENCE = "sentence"
    PARAGRAPH = "paragraph"
    SECTION = "section"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class Chunking:
    """How documents are cut: chunks of at most `max_tokens`, of which a neighbour repeats at most `overlap_tokens`.

    `tokenizer` is the catalog name of an embedding model, or "tiktoken:ENCODING".
    """

    tokenizer: str
    kind: ChunkerKind = ChunkerKind.SENTENCE
    max_tokens: int = 1000
    overlap_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document: `document.text[start:end] == text`, under the titles of `headings`, outermost first."""

    document: str
    start: int
    end: int
    text: str
    tokens: int
    headings: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Name of the chunk: the document's id and the span in characters."""
        return f"{self.document}#{self.start}-{self.end}"
