"""Indexes on the command line."""

import click
import pytest

from embedscale.cli.indexes import IndexType, IntegersType, label
from embedscale.v1 import evaluation_service_pb2 as pb


@pytest.mark.parametrize(
    "written",
    ["flat", "hnsw:m=32,ef_search=64", "ivf_pq:nlist=64,nprobe=4,pq_m=48,pq_bits=8", "ivf_flat:similarity=cosine"],
)
def test_what_is_read_is_written_the_same(written: str) -> None:
    assert label(IndexType().convert(written, None, None)) == written


def test_parameters_are_those_of_the_wire() -> None:
    index = IndexType().convert("hnsw:m=8,ef_construction=100,similarity=cosine", None, None)
    assert index == pb.IndexSpec(kind="INDEX_KIND_HNSW", m=8, ef_construction=100, similarity="SIMILARITY_COSINE")


@pytest.mark.parametrize(
    "written", ["", "tree", "hnsw:m", "hnsw:m=x", "hnsw:links=4", "hnsw:m=-1", "flat:similarity=l2"]
)
def test_what_is_wrong_is_refused(written: str) -> None:
    with pytest.raises(click.BadParameter, match="'"):
        IndexType().convert(written, None, None)


def test_lists_of_numbers() -> None:
    assert IntegersType().convert("256,128", None, None) == (256, 128)
    with pytest.raises(click.BadParameter, match="256,128"):
        IntegersType().convert("256;128", None, None)
