"""Between the wire's messages about data sets and the domain's values."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from embedscale.core.dataset import Dataset, DatasetCard, Imported, Judgements, Lengths
from embedscale.core.dataset_audit import Audit, Finding, TokenAudit
from embedscale.core.errors import InvalidField
from embedscale.v1 import evaluation_service_pb2 as pb

RowT = TypeVar("RowT")

MAX_EXCERPTS = 500
MAX_CHARACTERS = 1000
_CHARACTERS = 500
_ROWS = 50
_MESSAGE_CHARACTERS = 1_000_000


@dataclass(frozen=True, slots=True)
class Excerpts:
    """Texts of a data set that are wanted, by id, and how much of each."""

    queries: frozenset[str]
    documents: frozenset[str]
    characters: int


def to_dataset(card: DatasetCard) -> pb.Dataset:
    """Describe a data set."""
    return pb.Dataset(
        uri=card.uri,
        title=card.title,
        digest=card.digest,
        query_count=card.query_count,
        document_count=card.document_count,
        languages=card.languages,
        license=card.license,
        unanswered_count=card.unanswered_count,
        query_characters=_lengths(card.query_characters),
        document_characters=_lengths(card.document_characters),
        skipped=card.skipped,
        source=card.source,
    )


def to_excerpts(request: pb.ListTextsRequest) -> Excerpts:
    """Check what is asked for. Raises InvalidField."""
    if len(request.query_ids) + len(request.document_ids) > MAX_EXCERPTS:
        raise InvalidField(f"there are more than {MAX_EXCERPTS} ids", field="document_ids")
    if request.max_characters > MAX_CHARACTERS:
        raise InvalidField(f"max_characters is above {MAX_CHARACTERS}", field="max_characters")
    characters = request.max_characters or _CHARACTERS
    return Excerpts(frozenset(request.query_ids), frozenset(request.document_ids), characters)


def to_texts_response(dataset: Dataset, wanted: Excerpts) -> pb.ListTextsResponse:
    """Read through the set for the texts wanted."""
    return pb.ListTextsResponse(
        queries=_excerpts(dataset.queries() if wanted.queries else (), wanted.queries, wanted.characters),
        documents=_excerpts(dataset.documents() if wanted.documents else (), wanted.documents, wanted.characters),
    )


def to_import_response(imported: Imported, audit: Audit) -> pb.ImportDatasetResponse:
    """Write what was taken in; reads the set's card."""
    return pb.ImportDatasetResponse(
        dataset=to_dataset(imported.dataset.card),
        audit=to_audit(audit),
        faults=[pb.DatasetFault(kind=f.kind, place=f.place, message=f.message) for f in imported.faults],
    )


def to_audit(audit: Audit) -> pb.DatasetAudit:
    """Write an audit."""
    tokens = _tokens(audit.tokens) if audit.tokens else None
    return pb.DatasetAudit(findings=map(_finding, audit.findings), tokens=tokens)


def to_rows(dataset: Dataset, part: pb.DatasetPart) -> Iterator[pb.ReadDatasetResponse]:
    """Write all rows of a part, some to a message. Raises InvalidField."""
    if part == pb.DATASET_PART_JUDGEMENTS:
        for keys in _blocks(key for key, _ in dataset.queries()):
            judged = zip(keys, dataset.judgements(keys), strict=True)
            yield pb.ReadDatasetResponse(judgements=[_judgements(key, grades) for key, grades in judged])
    elif part in (pb.DATASET_PART_QUERIES, pb.DATASET_PART_DOCUMENTS):
        rows = dataset.queries() if part == pb.DATASET_PART_QUERIES else dataset.documents()
        for block in _text_blocks(rows):
            yield pb.ReadDatasetResponse(texts=[pb.DatasetText(id=key, text=text) for key, text in block])
    else:
        raise InvalidField("part is not set", field="part")


def _judgements(query: str, grades: Judgements) -> pb.QueryJudgements:
    judged = [pb.Judgement(document_id=key, grade=grade) for key, grade in grades.items()]
    return pb.QueryJudgements(query_id=query, judgements=judged)


def _blocks(rows: Iterable[RowT]) -> Iterator[list[RowT]]:
    """Lists of a few rows each."""
    given = iter(rows)
    while block := list(islice(given, _ROWS)):
        yield block


def _text_blocks(texts: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """The same, with less where texts are so long that a message would be too large."""
    block: list[tuple[str, str]] = []
    length = 0
    for key, text in texts:
        if block and (len(block) == _ROWS or length + len(text) > _MESSAGE_CHARACTERS):
            yield block
            block, length = [], 0
        block.append((key, text))
        length += len(text)
    if block:
        yield block


def _finding(finding: Finding) -> pb.AuditFinding:
    return pb.AuditFinding(
        kind=finding.kind,
        count=finding.count,
        total=finding.total,
        examples=[pb.AuditExample(ids=example.ids, excerpt=example.excerpt) for example in finding.examples],
    )


def _tokens(tokens: TokenAudit) -> pb.TokenAudit:
    return pb.TokenAudit(
        model=tokens.model,
        max_tokens=tokens.limits.max_tokens,
        windows=tokens.limits.windows,
        query_tokens=_lengths(tokens.query_tokens),
        document_tokens=_lengths(tokens.document_tokens),
        cut_share=tokens.cut_share,
    )


def _lengths(lengths: Lengths) -> pb.LengthSummary:
    return pb.LengthSummary(mean=lengths.mean, median=lengths.median, p95=lengths.p95, maximum=lengths.maximum)


def _excerpts(rows: Iterable[tuple[str, str]], ids: frozenset[str], characters: int) -> dict[str, str]:
    return {key: text[:characters] for key, text in rows if key in ids}
