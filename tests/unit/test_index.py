"""Every kind of index: exact ones against numpy, approximate ones by recall, and all of them built twice alike."""

import threading
from dataclasses import replace

import faiss
import numpy as np
import pytest

from embedscale.core.embedding import Encoding
from embedscale.core.errors import InvalidField
from embedscale.core.vector_index import IndexKind, IndexSpec
from embedscale.core.vectors import as_compared, bytes_per_vector, encode, l2_normalized
from embedscale.evaluator import index as index_module
from embedscale.evaluator.index import build_index
from embedscale.evaluator.index_parameters import check, resolve
from embedscale.evaluator.vector_rows import in_file

DIMENSIONS = 64
KINDS = list(IndexKind)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """4,000 vectors in 50 clusters, of length 1."""
    random = np.random.default_rng(1)
    centres = random.standard_normal((50, DIMENSIONS))
    return l2_normalized(
        (centres[random.integers(0, 50, 4000)] + 0.5 * random.standard_normal((4000, DIMENSIONS))).astype(np.float32)
    )


@pytest.fixture(scope="module")
def queries(vectors: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(2).standard_normal((100, DIMENSIONS)).astype(np.float32)
    return l2_normalized(vectors[::40] + 0.05 * noise)


def built(spec: IndexSpec, rows: np.ndarray) -> object:
    return build_index(resolve(spec, *rows.shape, "index"), rows, threading.Event())


def recall(spec: IndexSpec, rows: np.ndarray, queries: np.ndarray) -> float:
    _, found = built(spec, rows).search(queries, 10)
    nearest = np.argsort(-(queries @ rows.T), axis=1)[:, :10]
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, nearest, strict=True)]))


@pytest.mark.parametrize(
    ("kind", "least"),
    [("flat", 1.0), ("hnsw", 0.95), ("ivf_flat", 0.9), ("ivf_pq", 0.5), ("int8", 0.9), ("binary", 0.2)],
)
def test_indexes_find_what_is_near(vectors: np.ndarray, queries: np.ndarray, kind: str, least: float) -> None:
    assert recall(IndexSpec(IndexKind(kind)), vectors, queries) >= least


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_is_the_same_every_time(vectors: np.ndarray, queries: np.ndarray, kind: IndexKind) -> None:
    spec = IndexSpec(kind, pq_m=2 if kind is IndexKind.IVF_PQ else 0)  # it learns each code by itself, on both threads
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        (scores, rows), (again, same) = (built(spec, vectors).search(queries, 20) for _ in range(2))
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(threads)
    assert np.array_equal(rows, same)
    assert np.array_equal(scores, again)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 3, 7, 93, 300])
def test_default_parameters_fit_any_number_of_documents(vectors: np.ndarray, kind: IndexKind, count: int) -> None:
    if kind is IndexKind.IVF_PQ and count == 1:
        with pytest.raises(InvalidField, match="pq_bits"):
            built(IndexSpec(kind), vectors[:1])
        return
    scores, rows = built(IndexSpec(kind), vectors[:count]).search(vectors[:3], 5)
    assert scores.shape == rows.shape == (3, min(5, count))
    assert (rows < count).all()


def test_more_candidates_find_more(vectors: np.ndarray, queries: np.ndarray) -> None:
    few, many = (recall(IndexSpec(IndexKind.HNSW, m=4, ef_search=ef), vectors, queries) for ef in (10, 400))
    assert few < many
    one, all_lists = (recall(IndexSpec(IndexKind.IVF_FLAT, nlist=50, nprobe=n), vectors, queries) for n in (1, 50))
    assert one < all_lists == 1.0


def test_binary_scores_are_inner_products_of_signs(vectors: np.ndarray, queries: np.ndarray) -> None:
    for dimensions in (64, 61):
        rows, asked = vectors[:, :dimensions], queries[:5, :dimensions]
        scores, found = built(IndexSpec(IndexKind.BINARY), np.ascontiguousarray(rows)).search(asked, 7)
        signs, asked_signs = (as_compared(one, Encoding.BINARY) for one in (rows, asked))
        assert np.array_equal(scores, np.take_along_axis(asked_signs @ signs.T, found, axis=1))


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_is_that_of_what_is_stored(vectors: np.ndarray, kind: IndexKind) -> None:
    size = built(IndexSpec(kind, pq_m=16 if kind is IndexKind.IVF_PQ else 0), vectors).bytes_per_vector
    code = {"flat": 256, "hnsw": 256, "ivf_flat": 256, "ivf_pq": 16, "int8": 64, "binary": 8}[kind.value]
    if kind in (IndexKind.FLAT, IndexKind.BINARY):
        assert size == code
    else:
        assert code < size < code + 420


@pytest.mark.parametrize("encoding", list(Encoding))
def test_what_is_compared_is_what_the_api_sends(vectors: np.ndarray, encoding: Encoding) -> None:
    sent = encode(vectors[:20], encoding)
    assert len(sent) == 20 * bytes_per_vector(DIMENSIONS, encoding)
    if encoding is Encoding.BINARY:
        read = np.unpackbits(np.frombuffer(sent, np.uint8)).reshape(20, -1) * 2.0 - 1
    else:
        types = {Encoding.FLOAT32: "<f4", Encoding.FLOAT16: "<f2", Encoding.INT8: "i1"}
        read = np.frombuffer(sent, types[encoding]).reshape(20, -1)
    assert np.array_equal(as_compared(vectors[:20], encoding), read)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (IndexSpec(IndexKind.FLAT, m=8), "index.m"),
        (IndexSpec(IndexKind.HNSW, nlist=8), "index.nlist"),
        (IndexSpec(IndexKind.HNSW, m=1), "index.m"),
        (IndexSpec(IndexKind.IVF_FLAT, pq_m=8), "index.pq_m"),
        (IndexSpec(IndexKind.IVF_PQ, pq_bits=13), "index.pq_bits"),
    ],
)
def test_wrong_parameters_are_refused_by_name(spec: IndexSpec, field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        check(spec, "index")
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (IndexSpec(IndexKind.IVF_FLAT, nlist=101), "index.nlist"),
        (IndexSpec(IndexKind.IVF_FLAT, nlist=10, nprobe=11), "index.nprobe"),
        (IndexSpec(IndexKind.IVF_PQ, pq_m=7), "index.pq_m"),
        (IndexSpec(IndexKind.IVF_PQ, pq_bits=7), "index.pq_bits"),
    ],
)
def test_parameters_that_do_not_fit_the_data_are_refused_by_name(spec: IndexSpec, field: str) -> None:
    check(spec, "index")
    with pytest.raises(InvalidField) as caught:
        resolve(spec, 100, 64, "index")
    assert caught.value.field == field
    resolve(replace(spec, nlist=min(spec.nlist, 20), nprobe=0, pq_m=0, pq_bits=0), 100, 64, "index")


def test_building_stops_when_told(vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "ADDED_AT_ONCE", 100)
    stop = threading.Event()
    stop.set()
    index = build_index(IndexSpec(IndexKind.HNSW, m=8, ef_construction=50, ef_search=50), vectors, stop)
    assert index._index.ntotal == 0


def test_rows_in_a_file_are_rows(vectors: np.ndarray) -> None:
    rows = in_file(*vectors.shape)
    rows[:] = vectors
    assert isinstance(rows, np.memmap)
    assert np.array_equal(rows, vectors)
