"""Search over the real index against a brute-force ranking, where ties are everywhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from embedscale.evaluator.index import FlatIndex
from embedscale.evaluator.retrieval import Retrieval, search

Ranking = list[list[tuple[str, float]]]

document_ids = st.text(st.sampled_from("abz09é한😀\uffee"), min_size=1, max_size=3)


def brute_force(vectors: np.ndarray, queries: np.ndarray, documents: list[str], cutoff: int) -> Ranking:
    rankings = []
    for scores in queries.astype(np.float32) @ vectors.astype(np.float32).T:
        pairs = sorted(zip(scores.tolist(), documents, strict=True), key=lambda p: (p[0], p[1].encode()), reverse=True)
        rankings.append([(document, score) for score, document in pairs[:cutoff]])
    return rankings


def found(vectors: np.ndarray, queries: np.ndarray, documents: list[str], cutoff: int) -> Ranking:
    return search(FlatIndex(vectors), queries, documents, cutoff)


@st.composite
def searches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list[str], int]:
    documents = draw(st.lists(document_ids, min_size=1, max_size=40, unique=True))
    dimensions = draw(st.integers(1, 3))
    whole_numbers = st.integers(-1, 1).map(float)
    vectors = draw(st_numpy.arrays(np.float32, (len(documents), dimensions), elements=whole_numbers))
    queries = draw(st_numpy.arrays(np.float32, (draw(st.integers(1, 4)), dimensions), elements=whole_numbers))
    cutoff = draw(st.sampled_from([1, 2, 5, max(len(documents) - 1, 1), len(documents), len(documents) + 3]))
    return vectors, queries, documents, cutoff


@given(searches())
@settings(deadline=None, max_examples=200)
def test_search_equals_the_brute_force_ranking(case: tuple[np.ndarray, np.ndarray, list[str], int]) -> None:
    assert found(*case) == brute_force(*case)


@pytest.mark.parametrize("cutoff", [1, 5, 10, 100, 499, 500, 501, 1000])
@pytest.mark.parametrize("query_count", [1, 16, 64])
def test_search_equals_the_brute_force_ranking_on_many_documents(cutoff: int, query_count: int) -> None:
    random = np.random.default_rng(cutoff)
    vectors = random.integers(-1, 2, (500, 4)).astype(np.float32)
    queries = random.integers(-1, 2, (query_count, 4)).astype(np.float32)
    documents = [f"{number:03}-é" for number in random.permutation(500)]
    assert found(vectors, queries, documents, cutoff) == brute_force(vectors, queries, documents, cutoff)


@pytest.mark.parametrize("cutoff", [1, 7, 299, 300, 301])
def test_when_all_documents_tie_the_greatest_ids_are_found(cutoff: int) -> None:
    documents = [f"{number:03}" for number in range(300)]
    (ranking,) = found(np.ones((300, 2), np.float32), np.ones((1, 2), np.float32), documents, cutoff)
    assert ranking == [(document, 2.0) for document in sorted(documents, reverse=True)][:cutoff]


def test_a_tie_that_begins_or_ends_at_any_cutoff_is_resolved() -> None:
    vectors = np.repeat(np.arange(8, dtype=np.float32), [1, 2, 3, 4, 5, 4, 3, 2])[:, None]
    documents = [f"{number * 7 % 24:02}" for number in range(24)]
    query = np.ones((1, 1), np.float32)
    for cutoff in range(1, 26):
        assert found(vectors, query, documents, cutoff) == brute_force(vectors, query, documents, cutoff)


def test_a_tie_in_one_query_alone_is_resolved() -> None:
    vectors = np.asarray([[1, 0], [1, 3], [1, 2], [1, 1]], np.float32)
    queries = np.asarray([[0, 1], [1, 0]], np.float32)
    rankings = found(vectors, queries, ["a", "b", "c", "d"], 1)
    assert rankings == [[("b", 3.0)], [("d", 1.0)]]


def test_the_index_is_asked_for_no_more_than_is_needed_without_ties() -> None:
    depths = []

    class Counting(FlatIndex):
        def search(self, queries: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
            depths.append(depth)
            return super().search(queries, depth)

    index = Counting(np.arange(100, dtype=np.float32)[:, None])
    search(index, np.ones((3, 1), np.float32), [str(number) for number in range(100)], 5)
    assert depths == [6]


def test_scores_are_plain_numbers() -> None:
    (((_, score),),) = found(np.ones((1, 2), np.float32), np.ones((1, 2), np.float32), ["a"], 5)
    assert type(score) is float


def test_a_query_has_the_same_scores_alone_and_in_any_batch() -> None:
    random = np.random.default_rng(3)
    vectors, queries = (random.standard_normal((count, 96)).astype(np.float32) for count in (500, 70))
    documents = [f"{number:03}" for number in range(500)]
    together = found(vectors, queries, documents, 10)
    assert together == [found(vectors, query[None], documents, 10)[0] for query in queries]


def test_documents_of_the_same_vector_tie_wherever_they_are() -> None:
    random = np.random.default_rng(5)
    vectors = random.standard_normal((701, 97)).astype(np.float32)
    vectors[[3, 350, 511, 512, 699, 700]] = vectors[17]
    documents = [f"{number:03}" for number in range(701)]
    (ranking,) = found(vectors, vectors[17][None], documents, 5)
    assert [document for document, _ in ranking] == ["700", "699", "512", "511", "350"]


def test_the_document_of_the_query_s_own_id_is_left_out_only_when_asked() -> None:
    vectors, ids = np.eye(3, dtype=np.float32), ["a", "b", "c"]
    index = FlatIndex(vectors)
    for ignored, expected in ((False, [["a", "c"], ["c", "b"]]), (True, [["c", "b"], ["c", "b"]])):
        rankings = Retrieval(ids, 2, ignored).rankings(
            index, ["a", "x"], np.asarray([[1, 0, 0], [0, 0, 1]], np.float32)
        )
        assert [[document for document, _ in ranking] for ranking in rankings] == expected
