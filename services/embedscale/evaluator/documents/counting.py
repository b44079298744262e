"""Counts tokens: as an embedding model does, or with tiktoken."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence

from embedscale.core.embedding import InputType
from embedscale.core.errors import InvalidField
from embedscale.core.ports import TokenCounter

TIKTOKEN = "tiktoken:"
_TEXTS = 256
_CHARACTERS = 500_000

Count = Callable[[Sequence[str]], Awaitable[list[int]]]
"""Tokens of each text, of any number of texts."""


async def counting(tokenizer: str, counter: TokenCounter) -> Count:
    """How a tokenizer counts. Raises InvalidField for an encoding of tiktoken that has no file here."""
    if tokenizer.startswith(TIKTOKEN):
        return await asyncio.to_thread(_with_tiktoken, tokenizer.removeprefix(TIKTOKEN))

    async def count(texts: Sequence[str]) -> list[int]:
        tokens: list[int] = []
        for block in _blocks(texts):
            tokens += await counter.count_tokens(tokenizer, block, InputType.DOCUMENT)
        return tokens

    return count


def _with_tiktoken(name: str) -> Count:
    try:
        from embedscale.servicekit.tiktoken_files import load_encoding
    except ModuleNotFoundError:
        raise _refused(f"{TIKTOKEN}{name} needs tiktoken: pip install 'embedscale[documents]'") from None
    encoding = load_encoding(name)
    if encoding is None:
        raise _refused(f"{TIKTOKEN}{name}: no file of it is in TIKTOKEN_CACHE_DIR, and nothing is downloaded")

    async def count(texts: Sequence[str]) -> list[int]:
        tokens: list[int] = []
        for block in _blocks(texts):
            found = await asyncio.to_thread(encoding.encode_ordinary_batch, block, num_threads=1)
            tokens += [len(one) for one in found]
        return tokens

    return count


def _refused(message: str) -> InvalidField:
    return InvalidField(message, field="chunking.tokenizer")


def _blocks(texts: Sequence[str]) -> Iterator[list[str]]:
    block: list[str] = []
    length = 0
    for text in texts:
        if block and (len(block) == _TEXTS or length + len(text) > _CHARACTERS):
            yield block
            block, length = [], 0
        block.append(text)
        length += len(text)
    if block:
        yield block
