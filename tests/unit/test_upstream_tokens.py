"""What the proxy knows of tokens: counted and cut by tiktoken, apportioned otherwise, and what that means for texts."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import llama_index.core
import pytest
import tiktoken
import tiktoken.load
import tiktoken.registry
from hypothesis import given, settings
from hypothesis import strategies as st

from embedscale.core.embedding import InputType, Truncation
from embedscale.core.errors import InputRejected, InputTooLong
from embedscale.embedding.catalog import RemoteModel, UpstreamEntry
from embedscale.openai_proxy.calls import Calls
from embedscale.openai_proxy.engine import UpstreamEngine
from embedscale.openai_proxy.orders import QueuedText
from embedscale.openai_proxy.packer import Packer
from embedscale.openai_proxy.shared_state import SharedState
from embedscale.openai_proxy.spending import Spending
from embedscale.openai_proxy.tokens import Tokenizer, apportioned, load_tokenizer
from embedscale.openai_proxy.upstream import Upstream
from embedscale.servicekit.rate_limits import LocalLimiter
from embedscale.servicekit.retries import Retries
from tests.fakes.faulty_upstream import DIMENSIONS, running, vector


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
