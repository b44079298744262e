"""Indexes to sweep: `hnsw:m=32,ef_search=64` on the command line, and their results as a table."""

from collections.abc import Sequence
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from embedscale.v1 import evaluation_service_pb2 as pb
from embedscale.v1 import types_pb2 as wire

_NUMBERS = ("m", "ef_construction", "ef_search", "nlist", "nprobe", "pq_m", "pq_bits")


class IndexType(click.ParamType[pb.IndexSpec]):
    """KIND, or KIND:NAME=VALUE,NAME=VALUE."""

    name = "KIND[:NAME=VALUE,...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> pb.IndexSpec:
        """Read one index."""
        if isinstance(value, pb.IndexSpec):
            return value
        kind, _, written = value.partition(":")
        index = pb.IndexSpec()
        try:
            index.MergeFrom(pb.IndexSpec(kind=f"INDEX_KIND_{kind.upper()}"))
            for name, _, parameter in (part.partition("=") for part in filter(None, written.split(","))):
                _set(index, name, parameter)
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)
        return index


class IntegersType(click.ParamType[tuple[int, ...]]):
    """Whole numbers with commas between them."""

    name = "N,N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Read the numbers."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not like 256,128", param, ctx)


def as_table(evaluations: Sequence[pb.Evaluation], metric: str) -> Table:
    """One row a variant: the metric, what compression and the index cost of it, time to build, size, search time."""
    table = Table("DATA SET", "MODEL", "INDEX", "DIMS", "ENCODING", metric, "COMPRESSION LOSS", "INDEX LOSS", "BUILD",
                  "BYTES/VECTOR", "SEARCH P50", "P95", box=None)  # fmt: skip
    for evaluation in evaluations:
        for variant in evaluation.result.variants:
            table.add_row(escape(evaluation.spec.dataset), escape(evaluation.spec.model), *_cells(variant, metric))
    return table


def as_dict(variant: pb.EvaluationVariant) -> dict[str, Any]:
    """Everything about a variant."""
    return {
        "index": label(variant.index),
        "dimensions": variant.dimensions,
        "encoding": _encoding(variant),
        "metrics": {f"{m.name}@{m.cutoff}": m.value for m in variant.metrics},
        "intervals": {f"{m.name}@{m.cutoff}": [m.lower, m.upper] for m in variant.metrics},
        "compression_losses": {f"{one.name}@{one.cutoff}": one.compression for one in variant.losses},
        "index_losses": {f"{one.name}@{one.cutoff}": one.index for one in variant.losses},
        "build_seconds": variant.build_duration.ToTimedelta().total_seconds(),
        "bytes_per_vector": variant.bytes_per_vector,
        "search_p50_seconds": variant.search_p50.ToTimedelta().total_seconds(),
        "search_p95_seconds": variant.search_p95.ToTimedelta().total_seconds(),
    }


def label(index: pb.IndexSpec) -> str:
    """Write an index as the command line takes it."""
    parts = [f"{name}={value}" for name in _NUMBERS if (value := getattr(index, name))]
    if index.similarity == pb.SIMILARITY_COSINE:
        parts.append("similarity=cosine")
    return ":".join(filter(None, (pb.IndexKind.Name(index.kind).removeprefix("INDEX_KIND_").lower(), ",".join(parts))))


def _set(index: pb.IndexSpec, name: str, parameter: str) -> None:
    if name == "similarity":
        index.MergeFrom(pb.IndexSpec(similarity=f"SIMILARITY_{parameter.upper()}"))
    elif name in _NUMBERS:
        setattr(index, name, int(parameter))
    else:
        raise ValueError(f"{name!r} is none of similarity, {', '.join(_NUMBERS)}")


def _cells(variant: pb.EvaluationVariant, metric: str) -> list[str]:
    place = next(i for i, one in enumerate(variant.metrics) if f"{one.name}@{one.cutoff}" == metric)
    loss = variant.losses[place]
    milliseconds = (one.ToTimedelta().total_seconds() * 1000 for one in (variant.search_p50, variant.search_p95))
    return [
        label(variant.index),
        str(variant.dimensions),
        _encoding(variant),
        f"{variant.metrics[place].value:.4f}",
        f"{loss.compression:+.4f}",
        f"{loss.index:+.4f}",
        f"{variant.build_duration.ToTimedelta().total_seconds():.2f} s",
        f"{variant.bytes_per_vector:.0f}",
        *(f"{one:.2f} ms" for one in milliseconds),
    ]


def _encoding(variant: pb.EvaluationVariant) -> str:
    return wire.Encoding.Name(variant.encoding).removeprefix("ENCODING_").lower()
