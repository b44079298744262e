"""What a set in the making will take, before any of it is paid for."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

from embedscale.core.chat import ChatModelInfo
from embedscale.core.documents import Chunk
from embedscale.core.generation import Estimate
from embedscale.evaluator.generation.asking import QUESTIONS, Asking
from embedscale.evaluator.generation.prompting import Ask

_TOKENS_A_QUESTION = 25
_TOKENS_A_QUOTATION = 40


async def estimated(
    asks: AsyncIterator[Ask],
    chunks: Mapping[str, Chunk],
    documents: int,
    asking: Asking,
    model: ChatModelInfo,
    judge: ChatModelInfo | None,
) -> Estimate:
    """Count what is to be asked. Answers that are kept cost nothing; a judge is taken to see every question."""
    total = Estimate(documents=documents, chunks=len(chunks))
    async for ask in asks:
        total = replace(total, prompts=total.prompts + 1)
        about = [chunks[key] for key in ask.chunks]
        judged = judge.dollars(_tokens(about, ask.count), ask.count) if judge else 0.0
        if await asking.kept(QUESTIONS, ask.prompt):
            total = replace(total, kept_answers=total.kept_answers + 1, dollars=total.dollars + judged)
            continue
        given = round(_tokens(about, 1) * _bytes(ask.prompt.system + ask.prompt.text) / max(_bytes_of(about), 1))
        written = ask.count * (_TOKENS_A_QUESTION + _TOKENS_A_QUOTATION * model.follows_schema)
        total = replace(
            total,
            input_tokens=total.input_tokens + given,
            output_tokens=total.output_tokens + written,
            dollars=total.dollars + model.dollars(given, written) + judged,
        )
    return total


def _tokens(about: list[Chunk], times: int) -> int:
    return times * sum(chunk.tokens for chunk in about)


def _bytes_of(about: list[Chunk]) -> int:
    return sum(_bytes(chunk.text) for chunk in about)


def _bytes(text: str) -> int:
    return len(text.encode())
