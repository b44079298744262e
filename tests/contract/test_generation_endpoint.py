"""What a generated set asks of its endpoint: nothing twice, again what failed, and no more than limits allow."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from embedscale.client import AsyncEvaluationClient, FailedPrecondition, InvalidArgument, ResourceExhausted, Unavailable
from embedscale.v1 import evaluation_service_pb2 as pb
from tests.contract.generation import CHAT, JUDGE, generated, opened_evaluator, write_documents
from tests.fakes.chat_endpoint import ChatEndpoint

CHUNKS = 10


@pytest.mark.parametrize("fault", ["http429 0.2", "http500", "http503", "http408", "http409", "reset"])
async def test_failures_that_may_pass_are_tried_again(
    opened: AsyncEvaluationClient, endpoint: ChatEndpoint, documents: Path, fault: str
) -> None:
    endpoint.faults = [fault] * 3
    last = (await generated(opened, [documents]))[-1]
    assert (last.questions.kept, endpoint.calls, last.usage.calls) == (2 * CHUNKS, CHUNKS + 3, CHUNKS)


@pytest.mark.parametrize("opened", [{"timeout_seconds": 0.5}], indirect=True)
async def test_a_slow_answer_is_asked_for_again_and_counts_as_paid(
    opened: AsyncEvaluationClient, endpoint: ChatEndpoint, documents: Path
) -> None:
    endpoint.faults = ["hang"]
    last = (await generated(opened, [documents]))[-1]
    assert last.questions.kept == 2 * CHUNKS
    paid = (last.usage.input_tokens + 2 * last.usage.output_tokens) / 1e6
    assert last.usage.cost > paid + 2 * 300 / 1e6


@pytest.mark.parametrize("opened", [{"patience_seconds": 1}], indirect=True)
@pytest.mark.parametrize(
    ("fault", "kind", "reason"),
    [
        ("http401", FailedPrecondition, "UPSTREAM_REFUSED_KEY"),
        ("http400", InvalidArgument, "UPSTREAM_REJECTED"),
        ("http429 5", ResourceExhausted, "UPSTREAM_RATE_LIMITED"),
        ("http500", Unavailable, "UPSTREAM_UNAVAILABLE"),
        ("html", FailedPrecondition, "UPSTREAM_CHANGED"),
    ],
)
async def test_failures_that_stay_end_it_and_leak_nothing(
    opened: AsyncEvaluationClient,
    endpoint: ChatEndpoint,
    documents: Path,
    fault: str,
    kind: type[Exception],
    reason: str,
) -> None:
    endpoint.fault = fault
    with pytest.raises(kind) as caught:
        await generated(opened, [documents])
    assert caught.value.reason == reason
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("opened", [{"concurrency": 1}], indirect=True)
async def test_nothing_new_is_asked_after_an_error(
    opened: AsyncEvaluationClient, endpoint: ChatEndpoint, documents: Path
) -> None:
    endpoint.fault = "http401"
    with pytest.raises(FailedPrecondition):
        await generated(opened, [documents])
    assert endpoint.calls == 1


async def test_who_asks_again_pays_only_for_what_is_new(
    opened: AsyncEvaluationClient, endpoint: ChatEndpoint, documents: Path
) -> None:
    first = (await generated(opened, [documents]))[-1]
    second = (await generated(opened, [documents]))[-1]
    assert (second.usage.calls, second.usage.kept_answers, endpoint.calls) == (0, CHUNKS, CHUNKS)
    assert second.usage.cost == pytest.approx(first.usage.cost)
    assert (second.estimate.kept_answers, second.estimate.cost) == (CHUNKS, 0)
    assert (second.dataset.digest, second.manifest) == (first.dataset.digest, first.manifest)
    (documents / "depots-9.txt").write_text("Depot 99 stands in Cheb and has one crate.")
    third = (await generated(opened, [documents]))[-1]
    assert (third.usage.calls, endpoint.calls) == (1, CHUNKS + 1)
    assert third.dataset.digest != first.dataset.digest
    elsewhere = write_documents(documents.parent / "elsewhere", 1, 1)
    (elsewhere / "depots-0.txt").write_text("Depot 98 stands in Brno and has two crates.")
    fourth = (await generated(opened, [documents, elsewhere]))[-1]
    assert (fourth.usage.calls, endpoint.calls) == (1, CHUNKS + 2)
    await generated(opened, [documents], seed=1)
    assert endpoint.calls == 2 * CHUNKS + 3


async def test_two_who_ask_for_the_same_at_once_pay_once(
    opened: AsyncEvaluationClient, endpoint: ChatEndpoint, documents: Path
) -> None:
    endpoint.seconds = 0.05
    one, other = await asyncio.gather(generated(opened, [documents]), generated(opened, [documents]))
    assert set(endpoint.answered.values()) == {1}
    assert len(endpoint.answered) == CHUNKS
    assert one[-1].dataset.digest == other[-1].dataset.digest


async def test_an_estimate_asks_nothing(opened: AsyncEvaluationClient, endpoint: ChatEndpoint, documents: Path) -> None:
    told = await generated(opened, [documents], estimate_only=True)
    estimate = told[-1].estimate
    assert endpoint.calls == 0
    assert not told[-1].HasField("dataset")
    made = (await generated(opened, [documents]))[-1]
    assert estimate.prompts == made.usage.calls
    assert 0.5 < estimate.cost / made.usage.cost < 2
    assert 0.5 < estimate.input_tokens / made.usage.input_tokens < 2


@pytest.mark.parametrize("opened", [{"concurrency": 1}], indirect=True)
async def test_the_spending_limit_ends_it_and_a_higher_one_goes_on(
    opened: AsyncEvaluationClient, endpoint: ChatEndpoint, documents: Path
) -> None:
    estimate = (await generated(opened, [documents], estimate_only=True))[-1].estimate
    limit = 0.6 * estimate.cost + 2 * 300 / 1e6
    with pytest.raises(FailedPrecondition, match="every answer so far is kept") as caught:
        await generated(opened, [documents], spending_limit=limit)
    assert (caught.value.reason, caught.value.field) == ("GENERATION_LIMIT", "spending_limit")
    before = endpoint.calls
    assert 0 < before < CHUNKS
    assert len(endpoint.answered) == before
    last = (await generated(opened, [documents], spending_limit=1.0))[-1]
    assert (last.usage.kept_answers, endpoint.calls) == (before, CHUNKS)
    assert last.usage.cost <= 1.0


@pytest.mark.parametrize("opened", [{"concurrency": 3}], indirect=True)
async def test_no_more_calls_are_in_flight_than_the_catalog_allows(
    opened: AsyncEvaluationClient, endpoint: ChatEndpoint, documents: Path
) -> None:
    endpoint.seconds = 0.1
    await generated(opened, [documents])
    assert endpoint.most_in_flight == 3


async def test_who_leaves_stops_the_asking_within_a_second(
    opened: AsyncEvaluationClient, endpoint: ChatEndpoint, tmp_path: Path
) -> None:
    folder = write_documents(tmp_path / "many", 2, 40)
    endpoint.seconds = 0.3

    async def leave() -> None:
        options = {
            "language": "en",
            "model": CHAT,
            "chunking": pb.Chunking(kind=pb.CHUNKER_KIND_PARAGRAPH, max_tokens=64),
        }
        async for told in opened.generate_dataset([str(folder)], **options):
            if told.stage == pb.GENERATION_STAGE_ASK and told.done:
                return

    await leave()
    await asyncio.sleep(1.0)
    calls = endpoint.calls
    await asyncio.sleep(1.0)
    assert endpoint.calls == calls < 80


async def test_what_a_judge_was_asked_is_awaited_after_an_error_and_kept(
    opened: AsyncEvaluationClient, endpoint: ChatEndpoint, documents: Path
) -> None:
    endpoint.by_words = {
        "<question>\nHow many crates are stored in depot 1?": "hang",
        "<question>\nWho is in charge of depot 1?": "http401",
    }
    filters = pb.QuestionFilters(judge_model=JUDGE)
    with pytest.raises(FailedPrecondition):
        await generated(opened, [documents], filters=filters)
    before = endpoint.calls
    assert before <= CHUNKS + 4, "nothing new is asked after an error"
    endpoint.by_words = {}
    last = (await generated(opened, [documents], filters=filters))[-1]
    assert last.questions.kept == 2 * CHUNKS
    assert set(endpoint.answered.values()) == {1}


async def test_the_key_is_sent_and_never_shown(
    stack: AsyncExitStack, embedder: str, tmp_path: Path, endpoint: ChatEndpoint, documents: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("EMBEDSCALE_CHAT_KEY_WRITER", "sk-very-secret")
    client = await opened_evaluator(stack, embedder, tmp_path, endpoint.url)
    last = (await generated(client, [documents]))[-1]
    assert endpoint.headers["authorization"] == "Bearer sk-very-secret"
    assert "sk-very" not in str(last)


@pytest.mark.parametrize("opened", [{"requests_per_minute": 75, "concurrency": 10}], indirect=True)
async def test_calls_keep_to_the_rate(opened: AsyncEvaluationClient, endpoint: ChatEndpoint, documents: Path) -> None:
    started = time.monotonic()
    await generated(opened, [documents])
    assert time.monotonic() - started > (CHUNKS - 7) * 60 / 67.5  # a tenth at once, the rest at nine tenths of the rate
