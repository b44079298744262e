"""Questions that a language model writes about chunks of documents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class QuestionStyle(StrEnum):
    """What kind of question is asked for."""

    FACTUAL = "factual"
    PARAPHRASE = "paraphrase"
    KEYWORDS = "keywords"
    MULTI_CHUNK = "multi_chunk"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A question as it was written: about the chunks with these ids (one, or several for MULTI_CHUNK), and where the
    language model said so, the passage of the chunks' text that answers it, word for word."""

    text: str
    chunks: tuple[str, ...]
    style: QuestionStyle = QuestionStyle.FACTUAL
    quote: str = ""


class Reason(StrEnum):
    """Why a candidate is not in the set. The first one that applies, in this order, is counted."""

    PREAMBLE = "preamble"
    LENGTH = "length"
    LANGUAGE = "language"
    CONTEXT_LEAK = "context_leak"
    COPYING = "copying"
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near_duplicate"
    ROUND_TRIP = "round_trip"
    JUDGE = "judge"


@dataclass(frozen=True, slots=True)
class Filtering:
    """Which filters are on, and their limits. The round trip and the judge are on where their model is named."""

    language: str
    off: frozenset[Reason] = frozenset()
    min_characters: int = 10
    max_characters: int = 400
    max_copied_words: int = 8
    near_duplicate: float = 0.9
    round_trip_model: str = ""
    round_trip_depth: int = 5
    judge_model: str = ""


@dataclass(frozen=True, slots=True)
class Filtered:
    """The candidates that stay, in their order, and the others with the reason."""

    kept: Sequence[Candidate]
    dropped: Sequence[tuple[Candidate, Reason]] = ()

    def counts(self) -> Mapping[Reason, int]:
        """How many were dropped for each reason."""
        return {reason: sum(why is reason for _, why in self.dropped) for reason in Reason}


@dataclass(frozen=True, slots=True)
class GenerationSpec:
    """All that a generated set depends on, beside the documents' bytes."""

    documents: tuple[str, ...]
    language: str
    chat_model: str
    questions_per_chunk: int = 2
    styles: tuple[QuestionStyle, ...] = (QuestionStyle.FACTUAL,)
    seed: int = 0
    filtering: Filtering = field(default_factory=lambda: Filtering("en"))
