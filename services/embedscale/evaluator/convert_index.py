"""Indexes and sweeps between the wire's messages and the domain's values."""

from collections.abc import Sequence

from embedscale.core.embedding import Encoding
from embedscale.core.errors import InvalidField
from embedscale.core.evaluation import Metric, Variant
from embedscale.core.vector_index import IndexKind, IndexSpec, Similarity
from embedscale.evaluator.index_parameters import RANGES, check
from embedscale.servicekit.durations import to_duration
from embedscale.v1 import evaluation_service_pb2 as pb
from embedscale.v1 import types_pb2 as wire

MAX_VARIANTS = 200
_DIMENSIONS = 2**16

Sweep = tuple[tuple[IndexSpec, ...], tuple[int, ...], tuple[Encoding, ...]]

_KINDS = {
    pb.INDEX_KIND_FLAT: IndexKind.FLAT,
    pb.INDEX_KIND_HNSW: IndexKind.HNSW,
    pb.INDEX_KIND_IVF_FLAT: IndexKind.IVF_FLAT,
    pb.INDEX_KIND_IVF_PQ: IndexKind.IVF_PQ,
    pb.INDEX_KIND_INT8: IndexKind.INT8,
    pb.INDEX_KIND_BINARY: IndexKind.BINARY,
}
_SIMILARITIES = {
    pb.SIMILARITY_INNER_PRODUCT: Similarity.INNER_PRODUCT,
    pb.SIMILARITY_COSINE: Similarity.COSINE,
}
_ENCODINGS = {
    wire.ENCODING_FLOAT32: Encoding.FLOAT32,
    wire.ENCODING_FLOAT16: Encoding.FLOAT16,
    wire.ENCODING_INT8: Encoding.INT8,
    wire.ENCODING_BINARY: Encoding.BINARY,
}
_WIRE_KINDS = {kind: value for value, kind in _KINDS.items()}
_WIRE_SIMILARITIES = {one: value for value, one in _SIMILARITIES.items()}
_WIRE_ENCODINGS = {encoding: value for value, encoding in _ENCODINGS.items()}


def to_sweep(spec: pb.EvaluationSpec) -> Sweep:
    """Read what is to be tried beside exact search. Raises InvalidField."""
    indexes = tuple(to_index(index, f"spec.indexes[{place}]") for place, index in enumerate(spec.indexes))
    encodings = tuple(_encoding(value, f"spec.sweep_encodings[{i}]") for i, value in enumerate(spec.sweep_encodings))
    for place, length in enumerate(spec.sweep_dimensions):
        if not 1 <= length <= _DIMENSIONS:
            field = f"spec.sweep_dimensions[{place}]"
            raise InvalidField(f"{field} is {length} and must be from 1 to {_DIMENSIONS}", field=field)
    count = (1 + len(indexes)) * (1 + len(encodings)) * (1 + len(spec.sweep_dimensions))
    if count > MAX_VARIANTS:
        raise InvalidField(f"spec.indexes: {count} combinations are more than {MAX_VARIANTS}", field="spec.indexes")
    return indexes, tuple(spec.sweep_dimensions), encodings


def to_index(index: pb.IndexSpec, field: str) -> IndexSpec:
    """Read an index. Raises InvalidField."""
    if index.kind not in _KINDS:
        raise InvalidField(f"{field}.kind is not set or not known: {index.kind}", field=f"{field}.kind")
    similarity = index.similarity or pb.SIMILARITY_INNER_PRODUCT
    if similarity not in _SIMILARITIES:
        raise InvalidField(f"{field}.similarity has the unknown value {similarity}", field=f"{field}.similarity")
    parameters = {name: getattr(index, name) for name in RANGES}
    spec = IndexSpec(_KINDS[index.kind], _SIMILARITIES[similarity], **parameters)
    check(spec, field)
    return spec


def to_index_messages(indexes: Sequence[IndexSpec]) -> list[pb.IndexSpec]:
    """Write indexes."""
    return [
        pb.IndexSpec(
            kind=_WIRE_KINDS[index.kind],
            similarity=_WIRE_SIMILARITIES[index.similarity],
            **{name: getattr(index, name) for name in RANGES},
        )
        for index in indexes
    ]


def to_wire_encodings(encodings: Sequence[Encoding]) -> list[wire.Encoding]:
    """Write encodings."""
    return [_WIRE_ENCODINGS[encoding] for encoding in encodings]


def to_variant_messages(variants: Sequence[Variant]) -> list[pb.EvaluationVariant]:
    """Write what a sweep measured."""
    return [
        pb.EvaluationVariant(
            index=to_index_messages([variant.index])[0],
            dimensions=variant.dimensions,
            encoding=_WIRE_ENCODINGS[variant.encoding],
            metrics=to_metrics(variant.metrics),
            losses=[
                pb.MetricLoss(name=loss.name, cutoff=loss.cutoff, compression=loss.compression, index=loss.index)
                for loss in variant.losses
            ],
            build_duration=to_duration(variant.build_seconds),
            bytes_per_vector=variant.bytes_per_vector,
            search_p50=to_duration(variant.search_p50_seconds),
            search_p95=to_duration(variant.search_p95_seconds),
        )
        for variant in variants
    ]


def to_metrics(metrics: Sequence[Metric]) -> list[pb.Metric]:
    """Write metrics."""
    return [pb.Metric(name=m.name, cutoff=m.cutoff, value=m.value, lower=m.lower, upper=m.upper) for m in metrics]


def _encoding(value: wire.Encoding, field: str) -> Encoding:
    if value not in _ENCODINGS:
        raise InvalidField(f"{field} is not set or not known: {value}", field=field)
    return _ENCODINGS[value]
