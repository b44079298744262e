"""Between the wire's messages and the domain's values."""

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import unquote

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from embedscale.core import evaluation as domain
from embedscale.core.embedding import Truncation
from embedscale.core.errors import InvalidField
from embedscale.evaluator.convert_index import (
    to_index_messages,
    to_metrics,
    to_sweep,
    to_variant_messages,
    to_wire_encodings,
)
from embedscale.evaluator.jobs import NEWEST
from embedscale.servicekit.durations import to_duration
from embedscale.servicekit.roles import CALLER
from embedscale.servicekit.status import written_failure
from embedscale.v1 import evaluation_service_pb2 as pb
from embedscale.v1 import types_pb2 as wire

MessageT = TypeVar("MessageT", pb.QueryResult, pb.Evaluation)

MAX_CUTOFF = 1000
MAX_CUTOFFS = 50
"""Each makes six metrics, in every event and every variant."""
MAX_REQUEST_ID = 128
MAX_CALLER = 128
CALLER_METADATA = "embedscale-caller"
MAX_PAGE_BYTES = 2**20
_DEFAULT_CUTOFFS = (5,)
_NAME_PREFIX = "evaluations/"

_STATES = {
    domain.State.QUEUED: pb.EVALUATION_STATE_QUEUED,
    domain.State.RUNNING: pb.EVALUATION_STATE_RUNNING,
    domain.State.SUCCEEDED: pb.EVALUATION_STATE_SUCCEEDED,
    domain.State.FAILED: pb.EVALUATION_STATE_FAILED,
    domain.State.CANCELLED: pb.EVALUATION_STATE_CANCELLED,
}
_STAGES = {
    domain.Stage.NONE: pb.EVALUATION_STAGE_UNSPECIFIED,
    domain.Stage.READ_DATASET: pb.EVALUATION_STAGE_READ_DATASET,
    domain.Stage.EMBED_CORPUS: pb.EVALUATION_STAGE_EMBED_CORPUS,
    domain.Stage.SCORE_QUERIES: pb.EVALUATION_STAGE_SCORE_QUERIES,
    domain.Stage.SWEEP_INDEXES: pb.EVALUATION_STAGE_SWEEP_INDEXES,
}
_TRUNCATIONS = {
    wire.TRUNCATION_UNSPECIFIED: Truncation.END,
    wire.TRUNCATION_ERROR: Truncation.ERROR,
    wire.TRUNCATION_END: Truncation.END,
    wire.TRUNCATION_WINDOWS: Truncation.WINDOWS,
}
_WIRE_TRUNCATIONS = {domain_value: value for value, domain_value in _TRUNCATIONS.items() if value}


def to_spec(spec: pb.EvaluationSpec) -> domain.EvaluationSpec:
    """Read a specification. Raises InvalidField."""
    for name in ("model", "dataset"):
        if not getattr(spec, name):
            raise InvalidField(f"spec.{name} is empty", field=f"spec.{name}")
    cutoffs = tuple(sorted(set(spec.cutoffs))) or _DEFAULT_CUTOFFS
    if not 1 <= cutoffs[0] <= cutoffs[-1] <= MAX_CUTOFF:
        raise InvalidField(f"spec.cutoffs must be from 1 to {MAX_CUTOFF}", field="spec.cutoffs")
    if len(cutoffs) > MAX_CUTOFFS:
        raise InvalidField(f"spec.cutoffs has {len(cutoffs)} and may have {MAX_CUTOFFS}", field="spec.cutoffs")
    if spec.truncation not in _TRUNCATIONS:
        raise InvalidField(f"spec.truncation has the unknown value {spec.truncation}", field="spec.truncation")
    truncation = _TRUNCATIONS[spec.truncation]
    return domain.EvaluationSpec(
        spec.model, spec.dataset, cutoffs, spec.dimensions, truncation, *to_sweep(spec), spec.ignore_identical_ids
    )


def to_id(name: str) -> str:
    """Id in a resource name. Raises InvalidField."""
    if not name.startswith(_NAME_PREFIX):
        raise InvalidField(f"name must be like evaluations/ID, and is {name!r}", field="name")
    return name.removeprefix(_NAME_PREFIX)


def to_page(size: int, token: str, default: int, limit: int) -> slice:
    """Read which rows a page request means. Raises InvalidField."""
    if token and not re.fullmatch("[0-9]{1,18}", token):
        raise InvalidField("page_token is not one that this server gave", field="page_token")
    start = int(token or 0)
    return slice(start, start + min(size or default, limit))


def to_listing(request: pb.ListEvaluationsRequest) -> tuple[int, int]:
    """Read the ordinal below which a page of evaluations begins, and its size. Raises InvalidField."""
    page = to_page(request.page_size, request.page_token, 50, 1000)
    return page.start or NEWEST, page.stop - page.start


def to_filter(request: pb.ListEvaluationsRequest) -> Callable[[domain.Evaluation], bool]:
    """Read which evaluations are wanted. Raises InvalidField."""
    if request.state and request.state not in _STATES.values():
        raise InvalidField(f"state has the unknown value {request.state}", field="state")

    def wanted(one: domain.Evaluation) -> bool:
        return (
            (not request.model or one.spec.model == request.model)
            and (not request.dataset or one.spec.dataset == request.dataset)
            and (not request.state or _STATES[one.state] == request.state)
        )

    return wanted


def to_caller(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """Who calls: whose token it is; without tokens what the metadata say, or else the address, without the port."""
    if caller := CALLER.get():
        return caller.name
    for name, value in context.invocation_metadata() or ():
        if name == CALLER_METADATA:
            return str(value)[:MAX_CALLER]
    peer = unquote(context.peer())
    return peer.removeprefix("ipv4:").removeprefix("ipv6:").rpartition(":")[0] or peer


def next_token(page: slice, total: int) -> str:
    """Token of the page after `page`; empty when there is none."""
    return str(page.stop) if page.stop < total else ""


def fitting(messages: Iterable[MessageT], limit: int) -> list[MessageT]:
    """Take the first messages, at least one, that have at most `limit` bytes together."""
    taken: list[MessageT] = []
    size = 0
    for message in messages:
        size += message.ByteSize()
        if taken and size > limit:
            break
        taken.append(message)
    return taken


def to_evaluation(evaluation: domain.Evaluation) -> pb.Evaluation:
    """Write an evaluation."""
    spec = evaluation.spec
    return pb.Evaluation(
        name=_NAME_PREFIX + evaluation.id,
        spec=pb.EvaluationSpec(
            model=spec.model,
            dataset=spec.dataset,
            cutoffs=spec.cutoffs,
            dimensions=spec.dimensions,
            truncation=_WIRE_TRUNCATIONS[spec.truncation],
            indexes=to_index_messages(spec.indexes),
            sweep_dimensions=spec.sweep_dimensions,
            sweep_encodings=to_wire_encodings(spec.sweep_encodings),
            ignore_identical_ids=spec.ignore_identical_ids,
        ),
        state=_STATES[evaluation.state],
        create_time=_timestamp(evaluation.created),
        end_time=_timestamp(evaluation.ended) if evaluation.ended else None,
        result=_result(evaluation.result) if evaluation.result else None,
        error=written_failure(evaluation.failure) if evaluation.failure else None,
        attempt=evaluation.attempt,
        queue_position=evaluation.queue_position,
        caller=evaluation.caller,
    )


def to_event(event: domain.Event) -> pb.EvaluationEvent:
    """Write an event."""
    progress = event.progress
    return pb.EvaluationEvent(
        sequence=event.sequence,
        time=_timestamp(event.time),
        state=_STATES[event.state],
        stage=_STAGES[progress.stage],
        done=progress.done,
        total=progress.total,
        running=to_metrics(progress.running),
        usage=_usage(progress.usage),
        attempt=event.attempt,
    )


def to_query_result(result: domain.QueryResult) -> pb.QueryResult:
    """Write what was retrieved for a query."""
    return pb.QueryResult(
        query_id=result.query_id,
        rank=result.rank,
        retrieved=[pb.RetrievedDocument(document_id=document, score=score) for document, score in result.retrieved],
        relevant_ids=result.relevant,
        judgements=[pb.Judgement(document_id=document, grade=grade) for document, grade in result.judgements.items()],
    )


def _result(result: domain.Result) -> pb.EvaluationResult:
    return pb.EvaluationResult(
        metrics=to_metrics(result.metrics),
        query_count=result.query_count,
        document_count=result.document_count,
        usage=_usage(result.usage),
        fingerprint=result.fingerprint,
        dimensions=result.dimensions,
        dataset_digest=result.dataset_digest,
        duration=to_duration(result.duration_seconds),
        variants=to_variant_messages(result.variants),
    )


def _usage(usage: domain.Usage) -> pb.EvaluationUsage:
    return pb.EvaluationUsage(
        tokens=usage.tokens,
        inputs=usage.inputs,
        cache_hits=usage.cache_hits,
        truncated=usage.truncated,
        cost=usage.cost,
    )


def _timestamp(time: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp
