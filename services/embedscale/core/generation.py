"""Questions that a language model writes about chunks of documents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from embedscale.core.dataset import Dataset
from embedscale.core.dataset_audit import Audit
from embedscale.core.documents import Chunking


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


@dataclass(frozen=True, slots=True)
class WrittenQuestion:
    """A question that somebody wrote, and words of a document that answer it."""

    text: str
    answer: str


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
    max_copied_words: int = 10
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


class Failure(StrEnum):
    """Why an answer of a language model gave no question."""

    UNREADABLE = "unreadable"
    REFUSED = "refused"
    EMPTY = "empty"
    REJECTED = "rejected"
    """The endpoint would not take the prompt."""


@dataclass(frozen=True, slots=True)
class GenerationSpec:
    """All that a generated set depends on, beside the documents' bytes; `spending_limit` ends it early, at most.

    With `written` no chat model is asked, and what is said of one has no effect.
    """

    documents: tuple[str, ...]
    language: str
    chat_model: str
    chunking: Chunking
    questions_per_chunk: int = 2
    styles: tuple[QuestionStyle, ...] = (QuestionStyle.FACTUAL,)
    seed: int = 0
    filtering: Filtering = field(default_factory=lambda: Filtering("en"))
    spending_limit: float | None = None
    written: tuple[WrittenQuestion, ...] = ()


class Stage(StrEnum):
    """What a data set in the making is at; its progress is counted in the things named."""

    READ = "read"
    """Reading and cutting documents."""
    ASK = "ask"
    """Asking the language model, in prompts."""
    FILTER = "filter"
    """Filtering, in questions."""
    WRITE = "write"
    """Writing and auditing the set."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What there is to ask, and what that will take: tokens by the chunks' tokenizer, US dollars by the catalog."""

    documents: int = 0
    chunks: int = 0
    prompts: int = 0
    kept_answers: int = 0
    """Prompts that an earlier run was answered; they are not asked again, and not in the numbers below."""
    input_tokens: int = 0
    output_tokens: int = 0
    dollars: float = 0.0


@dataclass(frozen=True, slots=True)
class GenerationUsage:
    """What has been asked so far, and what it took; `kept_answers` are from earlier runs, and in the other sums too."""

    calls: int = 0
    kept_answers: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    dollars: float = 0.0

    def __add__(self, other: "GenerationUsage") -> "GenerationUsage":
        return GenerationUsage(
            self.calls + other.calls,
            self.kept_answers + other.kept_answers,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.dollars + other.dollars,
        )


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the questions: written, kept, dropped by reason; answers without any, by failure.

    `missing` are questions fewer than were asked for in answers that had some, and `surplus` those that were more.
    """

    written: int = 0
    missing: int = 0
    surplus: int = 0
    failures: Mapping[Failure, int] = field(default_factory=dict)
    kept: int = 0
    dropped: Mapping[Reason, int] = field(default_factory=dict)
    undecided: int = 0


@dataclass(frozen=True, slots=True)
class Generated:
    """The finished set, what an audit says of it, and as JSON all that it was made from."""

    dataset: Dataset
    audit: Audit
    manifest: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a data set in the making is; the last one has `generated`, unless only an estimate was wanted."""

    stage: Stage
    done: int = 0
    total: int = 0
    estimate: Estimate = Estimate()
    usage: GenerationUsage = GenerationUsage()
    tally: Tally = Tally()
    warnings: tuple[str, ...] = ()
    generated: Generated | None = None
