"""Between the wire's messages about data sets in the making and the domain's values."""

import math
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TypeVar

from embedscale.core.documents import ChunkerKind, Chunking
from embedscale.core.errors import InvalidField
from embedscale.core.generation import (
    Estimate,
    Filtering,
    GenerationSpec,
    GenerationUsage,
    Progress,
    QuestionStyle,
    Reason,
    Tally,
    WrittenQuestion,
)
from embedscale.evaluator.convert_dataset import to_audit, to_dataset
from embedscale.evaluator.documents.chunking import MOST_TOKENS
from embedscale.v1 import evaluation_service_pb2 as pb

KindT = TypeVar("KindT", bound=StrEnum)

_MOST_DOCUMENTS = 1000
_MOST_QUESTIONS = 20
_MOST_WRITTEN = 10_000
_OF_CHAT_MODELS = ("model", "questions_per_chunk", "styles", "filters", "seed", "spending_limit")
_MOST_DEPTH = 1000
_MOST_SEED = 2**31 - 1
_QUESTIONS, _CHUNK_TOKENS, _DEPTH = 2, 1000, 5
_STAGE_PREFIX = "GENERATION_STAGE_"


def to_generation(request: pb.GenerateDatasetRequest, tokenizer: str) -> GenerationSpec:
    """Check a request; chunks are counted by `tokenizer` where it names none. Raises InvalidField."""
    if not 0 < len(request.documents) <= _MOST_DOCUMENTS:
        raise InvalidField(f"documents must be 1 to {_MOST_DOCUMENTS} paths or URLs", field="documents")
    if not request.language:
        raise InvalidField("language is empty", field="language")
    if not request.model and not request.questions:
        raise InvalidField("model is empty, and there are no questions", field="model")
    limit = request.spending_limit if request.HasField("spending_limit") else None
    if limit is not None and not 0 <= limit < math.inf:
        raise InvalidField("spending_limit must be a number of US dollars from 0", field="spending_limit")
    styles = [_known(QuestionStyle, style, "styles") for style in request.styles]
    return GenerationSpec(
        documents=tuple(request.documents),
        language=request.language,
        chat_model=request.model,
        chunking=_chunking(request.chunking, tokenizer),
        questions_per_chunk=_at_most(request.questions_per_chunk, _MOST_QUESTIONS, "questions_per_chunk") or _QUESTIONS,
        styles=tuple(dict.fromkeys(styles)) or (QuestionStyle.FACTUAL,),
        seed=_at_most(request.seed, _MOST_SEED, "seed"),
        filtering=_filtering(request.filters, request.language),
        spending_limit=limit,
        written=_written(request),
    )


def to_generation_response(progress: Progress) -> pb.GenerateDatasetResponse:
    """Write how far a set is; reads the card of a finished one."""
    made = progress.generated
    return pb.GenerateDatasetResponse(
        done=progress.done,
        total=progress.total,
        stage=f"{_STAGE_PREFIX}{progress.stage.name}",
        estimate=_estimate(progress.estimate),
        usage=_usage(progress.usage),
        questions=_counts(progress.tally),
        warnings=progress.warnings,
        dataset=to_dataset(made.dataset.card) if made else None,
        audit=to_audit(made.audit) if made else None,
        manifest=made.manifest if made else "",
    )


def _written(request: pb.GenerateDatasetRequest) -> tuple[WrittenQuestion, ...]:
    if not request.questions:
        return ()
    if len(request.questions) > _MOST_WRITTEN:
        raise InvalidField(f"questions has {len(request.questions)}, above {_MOST_WRITTEN}", field="questions")
    fields = {field.name for field, _ in request.ListFields()}
    if wrong := [name for name in _OF_CHAT_MODELS if name in fields]:
        raise InvalidField(f"{wrong[0]} is for a chat model, and with questions none is asked", field=wrong[0])
    for place, question in enumerate(request.questions):
        for field in ("text", "answer"):
            if not getattr(question, field).strip():
                where = f"questions[{place}].{field}"
                raise InvalidField(f"{where} is empty", field=where)
    return tuple(WrittenQuestion(question.text, question.answer) for question in request.questions)


def _chunking(chunking: pb.Chunking, tokenizer: str) -> Chunking:
    tokens = _at_most(chunking.max_tokens, MOST_TOKENS, "chunking.max_tokens") or _CHUNK_TOKENS
    if chunking.overlap_tokens >= tokens:
        field = "chunking.overlap_tokens"
        raise InvalidField(f"{field} is {chunking.overlap_tokens}, and a chunk has {tokens} at most", field=field)
    kind = ChunkerKind.SENTENCE
    if chunking.kind:
        kind = _known(ChunkerKind, chunking.kind, "chunking.kind")
    return Chunking(chunking.tokenizer or tokenizer, kind, tokens, chunking.overlap_tokens)


def _filtering(filters: pb.QuestionFilters, language: str) -> Filtering:
    known = {reason.value for reason in Reason}
    if unknown := [name for name in filters.without if name not in known]:
        message = f"there is no filter {unknown[0]!r}; there are {', '.join(sorted(known))}"
        raise InvalidField(message, field="filters.without")
    return Filtering(
        language,
        frozenset(map(Reason, filters.without)),
        round_trip_model=filters.round_trip_model,
        round_trip_depth=_at_most(filters.round_trip_depth, _MOST_DEPTH, "filters.round_trip_depth") or _DEPTH,
        judge_model=filters.judge_model,
    )


def _known(kind: type[KindT], value: int, field: str) -> KindT:
    """Value of the domain: the wire has the same ones, in the same order, from 1."""
    known = dict(enumerate(kind, 1))
    if value not in known:
        raise InvalidField(f"{field} has an unknown value, {value}", field=field)
    return known[value]


def _at_most(value: int, most: int, field: str) -> int:
    if value > most:
        raise InvalidField(f"{field} is {value}, above {most}", field=field)
    return value


def _estimate(estimate: Estimate) -> pb.GenerationEstimate:
    return pb.GenerationEstimate(
        documents=estimate.documents,
        chunks=estimate.chunks,
        prompts=estimate.prompts,
        kept_answers=estimate.kept_answers,
        input_tokens=estimate.input_tokens,
        output_tokens=estimate.output_tokens,
        cost=estimate.dollars,
    )


def _usage(usage: GenerationUsage) -> pb.GenerationUsage:
    return pb.GenerationUsage(
        calls=usage.calls,
        kept_answers=usage.kept_answers,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost=usage.dollars,
    )


def _counts(tally: Tally) -> pb.QuestionCounts:
    return pb.QuestionCounts(
        written=tally.written,
        missing=tally.missing,
        surplus=tally.surplus,
        failures=_named(tally.failures.items()),
        kept=tally.kept,
        dropped=_named(tally.dropped.items()),
        undecided=tally.undecided,
    )


def _named(counts: Iterable[tuple[StrEnum, int]]) -> Mapping[str, int]:
    return {kind.value: count for kind, count in counts}
