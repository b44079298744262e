"""Data sets on the wire: where they may come from, and what is said of those that are not right."""

import json
from pathlib import Path

import pytest

from embedscale.client import AsyncEvaluationClient, InvalidArgument, NotFound, PermissionDenied
from embedscale.v1 import evaluation_service_pb2 as pb
from embedscale.v1 import types_pb2 as wire
from tests.conftest import MINILM
from tests.contract.conftest import SMALL, finished


async def test_a_data_set_comes_from_a_path_a_file_uri_or_a_url(
    evaluations: AsyncEvaluationClient, data: Path, website: str
) -> None:
    digests = set()
    for uri in (str(data / "small.json"), (data / "small.json").as_uri(), f"{website}/small.json"):
        digests.add((await finished(evaluations, MINILM, uri)).result.dataset_digest)
        digests.add((await evaluations.dataset(uri)).digest)
    assert len(digests) == 1


def variant(**changes: object) -> bytes:
    return json.dumps(SMALL | changes).encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "not JSON"),
        (b"[]", "an unknown format"),
        (variant(queries={}), "queries is empty"),
        (variant(relevant_docs={"q1": ["d1"], "q2": ["nothing"]}), "unknown document 'nothing'"),
        (variant(relevant_docs={"q1": ["d1"]}), "lacks query 'q2'"),
        (b"\xff\xfe", "not JSON"),
        (b" " * 10**6 + b"{}", "larger than the limit"),
    ],
)
async def test_an_invalid_data_set_fails_with_the_fault(
    evaluations: AsyncEvaluationClient, data: Path, content: bytes, said: str
) -> None:
    path = data / "bad.json"
    path.write_bytes(content)
    evaluation = await finished(evaluations, MINILM, str(path))
    assert evaluation.state == pb.EVALUATION_STATE_FAILED
    assert evaluation.error.reason == wire.ERROR_REASON_DATASET_INVALID
    assert said in evaluation.error.message
    with pytest.raises(InvalidArgument, match=r"bad\.json"):
        await evaluations.dataset(str(path))


async def test_a_data_set_that_is_not_there_or_not_allowed_says_so(
    evaluations: AsyncEvaluationClient, data: Path, website: str
) -> None:
    for uri in (str(data / "none.json"), f"{website}/none.json", "ftp://127.0.0.1/x", "builtin:nothing", str(data)):
        with pytest.raises(NotFound):
            await evaluations.dataset(uri)
    (data / "link.json").symlink_to("/etc/hostname")
    for uri in ("/etc/hostname", str(data / ".." / ".." / "x"), str(data / "link.json"), "http://localhost:1/x"):
        with pytest.raises(PermissionDenied):
            await evaluations.dataset(uri)


async def test_known_data_sets_are_listed(evaluations: AsyncEvaluationClient) -> None:
    datasets = await evaluations.datasets()
    assert [dataset.uri for dataset in datasets] == [f"builtin:velmar/{tag}" for tag in ("en", "fr", "cs", "hu", "ko")]
    assert {(dataset.query_count, dataset.document_count) for dataset in datasets} == {(96, 48)}
    assert len({dataset.digest for dataset in datasets}) == 5
