"""Goes through a data set once for each finding, a block at a time."""

from collections.abc import Iterator
from itertools import islice

from embedscale.core.dataset import Dataset
from embedscale.core.dataset_audit import Example, Finding, FindingKind
from embedscale.evaluator.audit.near_duplicates import EXAMPLES, EXCERPT, Texts, repeats
from embedscale.evaluator.audit.wording import named_context, quotation

_BLOCK = 64


class _Tally:
    """Counts cases of one kind and keeps the first."""

    def __init__(self, kind: FindingKind, total: int) -> None:
        self._kind = kind
        self._total = total
        self._count = 0
        self._examples: list[Example] = []

    def add(self, ids: tuple[str, ...], excerpt: str) -> None:
        self._count += 1
        if len(self._examples) < EXAMPLES:
            self._examples.append(Example(ids, excerpt[:EXCERPT]))

    def finding(self) -> Finding:
        return Finding(self._kind, self._count, self._total, tuple(self._examples))


def findings(dataset: Dataset) -> list[Finding]:
    """Look for everything that takes no model. Long work on a processor: not for the event loop."""
    card = dataset.card
    return [
        *_repeated(
            dataset.documents,
            FindingKind.DUPLICATE_DOCUMENTS,
            FindingKind.NEAR_DUPLICATE_DOCUMENTS,
            card.document_count,
        ),
        *_repeated(
            dataset.queries, FindingKind.DUPLICATE_QUERIES, FindingKind.NEAR_DUPLICATE_QUERIES, card.query_count
        ),
        *_worded(dataset, card.query_count),
    ]


def _repeated(texts: Texts, exact: FindingKind, near: FindingKind, total: int) -> Iterator[Finding]:
    for kind, found in zip((exact, near), repeats(texts), strict=True):
        yield Finding(kind, found.count, total, found.examples)


def _worded(dataset: Dataset, total: int) -> Iterator[Finding]:
    kinds = (FindingKind.NAMES_CONTEXT, FindingKind.QUOTES_DOCUMENT, FindingKind.UNANSWERED_QUERIES)
    naming, quoting, unanswered = (_Tally(kind, total) for kind in kinds)
    queries = dataset.queries()
    while block := list(islice(queries, _BLOCK)):
        judged = dataset.judgements([key for key, _ in block])
        for (key, text), grades in zip(block, judged, strict=True):
            relevant = [document for document, grade in grades.items() if grade > 0]
            if words := named_context(text):
                naming.add((key,), f"{words}: {text}")
            if not relevant:
                unanswered.add((key,), text)
            elif words := quotation(text, dataset.texts(relevant)):
                quoting.add((key, *relevant[:1]), words)
    yield from (tally.finding() for tally in (naming, quoting, unanswered))
