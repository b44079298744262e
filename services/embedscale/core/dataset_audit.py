"""What an audit says of a data set: not faults, but what makes its scores say less than they seem to."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from embedscale.core.dataset import Lengths


class FindingKind(StrEnum):
    """What an audit looks for."""

    DUPLICATE_DOCUMENTS = "duplicate_documents"
    NEAR_DUPLICATE_DOCUMENTS = "near_duplicate_documents"
    DUPLICATE_QUERIES = "duplicate_queries"
    NEAR_DUPLICATE_QUERIES = "near_duplicate_queries"
    NAMES_CONTEXT = "names_context"
    QUOTES_DOCUMENT = "quotes_document"
    UNANSWERED_QUERIES = "unanswered_queries"
    TRUNCATED_DOCUMENTS = "truncated_documents"


@dataclass(frozen=True, slots=True)
class Example:
    """One case: the texts it is about, by id, and the words that show it."""

    ids: tuple[str, ...]
    excerpt: str


@dataclass(frozen=True, slots=True)
class Finding:
    """How many of the set's `total` texts are such a case, and the first of them."""

    kind: FindingKind
    count: int
    total: int
    examples: Sequence[Example] = ()


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """What a model does with long texts: its maximum, 0 for none, and whether it takes them in windows."""

    max_tokens: int
    windows: bool


@dataclass(frozen=True, slots=True)
class TokenAudit:
    """Lengths in one model's tokens, prompts included, and what is lost where texts are cut at its maximum."""

    model: str
    limits: TokenLimits
    query_tokens: Lengths
    document_tokens: Lengths
    cut_share: float
    """Share of all tokens of documents beyond the maximum."""


@dataclass(frozen=True, slots=True)
class Audit:
    """Findings in the order of `FindingKind`, and what a model makes of the set where one was named."""

    findings: Sequence[Finding]
    tokens: TokenAudit | None = None
