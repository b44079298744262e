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
    """Which filters are on, and their limits. The round trip and the judge are on where their model is named.

    Lengths are in columns: a character of Chinese, Japanese or Korean writing takes two. `max_copied_words` may stand
    in a row in a question as in its chunk; three characters of those writings count as a word. `near_duplicate` is a
    Jaccard index, from 0.8. A question is kept if its chunk is among the `round_trip_depth` that the model finds.
    """

    language: str
    off: frozenset[Reason] = frozenset()
    min_characters: int = 10
    max_characters: int = 400
    max_copied_words: int = 7
    near_duplicate: float = 0.9
    round_trip_model: str = ""
    round_trip_depth: int = 5
    judge_model: str = ""


@dataclass(frozen=True, slots=True)
class Filtered:
    """The candidates that stay, in their order, and the others with the reason.

    A question that was written word for word about several chunks stays once, about all of them. `undecided` of those
    that stay were given an answer by the judge that is neither yes nor no.
    """

    kept: Sequence[Candidate]
    dropped: Sequence[tuple[Candidate, Reason]] = ()
    undecided: int = 0

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
