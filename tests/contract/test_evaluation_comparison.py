"""Comparisons of evaluations on the wire: what they find, and what may not be compared."""

from collections.abc import Callable
from contextlib import AsyncExitStack

import grpc
import pytest

from embedscale.client import AsyncEvaluationClient
from embedscale.evaluator import bootstrap
from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.v1 import evaluation_service_pb2 as pb
from embedscale.v1.evaluation_service_pb2_grpc import EvaluationServiceStub
from tests.conftest import MINILM, served
from tests.contract.conftest import finished
from tests.fakes.hash_engine import HASH

ENGLISH = "builtin:velmar/en"


@pytest.fixture(scope="module")
async def evaluator(
    session_stack: AsyncExitStack, embedder: str, hasher: str, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Address of an evaluator with a real model, and one whose vectors mean nothing."""
    settings = EvaluatorSettings(
        embedding_addresses=[embedder, hasher], data_folder=tmp_path_factory.mktemp("comparing"), drain_seconds=0
    )
    return await served(session_stack, bootstrap.build(settings), settings)


@pytest.fixture(scope="module")
async def twice(evaluator: str) -> list[str]:
    """Names of two evaluations of one model on one set."""
    async with AsyncEvaluationClient(evaluator) as client:
        return [(await finished(client, MINILM, ENGLISH)).name for _ in range(2)]


@pytest.fixture
def stub(evaluator: str, channel_to: Callable) -> EvaluationServiceStub:
    return EvaluationServiceStub(channel_to(evaluator))


async def refusal(stub: EvaluationServiceStub, names: list[str], **options: int) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.CompareEvaluations(pb.CompareEvaluationsRequest(names=names, **options))
    return caught.value.code(), caught.value.details()


async def test_the_real_difference_is_found(
    evaluations: AsyncEvaluationClient, stub: EvaluationServiceStub, twice: list[str]
) -> None:
    good = twice[0]
    random = (await finished(evaluations, HASH, ENGLISH)).name
    answer = await stub.CompareEvaluations(pb.CompareEvaluationsRequest(names=[good, random]))
    (pair,) = answer.pairs
    assert pair.difference > 0.2
    assert pair.p_value < 0.05
    assert list(answer.best) == [good]


async def test_alike_do_not_differ(stub: EvaluationServiceStub, twice: list[str]) -> None:
    answer = await stub.CompareEvaluations(pb.CompareEvaluationsRequest(names=twice))
    assert (answer.pairs[0].difference, answer.pairs[0].p_value) == (0, 1)
    assert set(answer.best) == set(twice)


@pytest.mark.parametrize("name", ["mrr", "hit_rate", "recall", "precision", "ndcg", "map"])
async def test_any_metric_can_be_compared(stub: EvaluationServiceStub, twice: list[str], name: str) -> None:
    request = pb.CompareEvaluationsRequest(names=twice, metric=name, changed_queries=3)
    (pair,) = (await stub.CompareEvaluations(request)).pairs
    assert (pair.difference, pair.queries_needed, len(pair.better), len(pair.worse)) == (0, 0, 0, 0)


async def test_another_set_or_rule_or_none_is_not_compared_nor_less_deep(
    evaluations: AsyncEvaluationClient, stub: EvaluationServiceStub, twice: list[str]
) -> None:
    one = twice[0]
    french = (await finished(evaluations, MINILM, "builtin:velmar/fr")).name
    by_another_rule = (await finished(evaluations, MINILM, ENGLISH, ignore_identical_ids=True)).name
    assert (await refusal(stub, [one]))[0] == grpc.StatusCode.INVALID_ARGUMENT
    for names, options, reason in (
        ([one, french], {}, "of different data"),
        ([one, by_another_rule], {}, "ignore_identical_ids"),
        (twice, {"cutoff": 6}, "ends at the cutoff 5, before 6"),
    ):
        code, details = await refusal(stub, names, **options)
        assert code == grpc.StatusCode.FAILED_PRECONDITION
        assert reason in details
