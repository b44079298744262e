"""Comparisons between the wire's messages and the domain's values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embedscale.core.errors import InvalidField
from embedscale.core.evaluation import QueryResult
from embedscale.evaluator.comparison import Change, Comparison, changes, compare, tied_with_best
from embedscale.evaluator.convert import to_id
from embedscale.evaluator.metrics import METRICS, judged
from embedscale.evaluator.uncertainty import Values, group_numbers
from embedscale.v1 import evaluation_service_pb2 as pb

_DEFAULT_METRIC, _DEFAULT_CUTOFF, _DEFAULT_CHANGES = "mrr", 5, 10
MAX_CHANGES = 1000


@dataclass(frozen=True, slots=True)
class WantedComparison:
    """Which evaluations to compare, by what, and how many queries that changed to name for each pair."""

    ids: Sequence[str]
    metric: str
    cutoff: int
    changes: int


def to_comparison(request: pb.CompareEvaluationsRequest) -> WantedComparison:
    """Read which evaluations to compare. Raises InvalidField."""
    metric = request.metric or _DEFAULT_METRIC
    if len(set(request.names)) < 2:
        raise InvalidField("names must hold at least two different evaluations", field="names")
    if metric not in METRICS:
        raise InvalidField(f"metric is {metric!r}; there are {', '.join(METRICS)}", field="metric")
    if request.changed_queries > MAX_CHANGES:
        raise InvalidField(f"changed_queries is more than {MAX_CHANGES}", field="changed_queries")
    ids = [to_id(name) for name in dict.fromkeys(request.names)]
    return WantedComparison(ids, metric, request.cutoff or _DEFAULT_CUTOFF, request.changed_queries or _DEFAULT_CHANGES)


def to_comparison_response(
    results: Mapping[str, Sequence[QueryResult]], wanted: WantedComparison
) -> pb.CompareEvaluationsResponse:
    """Compare the results of each evaluation, by id, and write the outcome."""
    aligned = {f"evaluations/{key}": _aligned(rows) for key, rows in results.items()}
    values = {name: _values(rows, wanted) for name, rows in aligned.items()}
    queries = next(iter(aligned.values()))
    pairs = compare(values, group_numbers([row.source for row in queries]))
    ids = [row.query_id for row in queries]
    return pb.CompareEvaluationsResponse(
        pairs=[_pair(one, changes(values[one.first], values[one.second], ids, wanted.changes)) for one in pairs],
        best=tied_with_best(values, pairs),
    )


def _aligned(rows: Sequence[QueryResult]) -> list[QueryResult]:
    """Order by query id: the same data may come in another order."""
    return sorted(rows, key=lambda row: row.query_id)


def _values(rows: Sequence[QueryResult], wanted: WantedComparison) -> Values:
    rankings = [[document for document, _ in row.retrieved] for row in rows]
    judgements = [row.judgements for row in rows]
    return METRICS[wanted.metric](judged(rankings, judgements, wanted.cutoff), wanted.cutoff)


def _pair(one: Comparison, changed: tuple[Sequence[Change], Sequence[Change]]) -> pb.PairwiseComparison:
    better, worse = (
        [pb.ChangedQuery(query_id=c.query_id, first=c.first, second=c.second) for c in part] for part in changed
    )
    return pb.PairwiseComparison(
        first=one.first,
        second=one.second,
        difference=one.difference,
        lower=one.lower,
        upper=one.upper,
        p_value=one.p_value,
        adjusted_p_value=one.adjusted,
        detectable_difference=one.detectable,
        queries_needed=one.queries_needed,
        better=better,
        worse=worse,
    )
