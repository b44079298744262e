"""Asks a language model through the official SDK: in its turn, within the budget, and again where that may help."""

import asyncio
import time
from typing import Any

import openai
from openai.types import CompletionUsage

from embedscale.core.chat import Answer, Budget, ChatModelInfo, Prompt
from embedscale.core.errors import EmbedscaleError, UpstreamChanged, UpstreamRateLimited, UpstreamUnavailable
from embedscale.evaluator.generation.chat_catalog import ChatEntry
from embedscale.evaluator.telemetry import CHAT_CALLS, CHAT_DOLLARS, CHAT_TOKENS
from embedscale.servicekit.openai_faults import TryAgain, translated
from embedscale.servicekit.rate_limits import LocalLimiter, buckets
from embedscale.servicekit.retries import Retries

_RETRIES = Retries(most=100)  # patience ends first, unless an endpoint asks to be called at once for ever
_BYTES_PER_TOKEN = 3


class OpenAIChat:
    """The port `ChatModel` over an OpenAI-compatible endpoint."""

    def __init__(self, name: str, entry: ChatEntry, api_key: str) -> None:
        self._name = name
        self._entry = entry
        self._info = entry.info(name)
        self._slots = asyncio.Semaphore(entry.concurrency)
        self._limiter = LocalLimiter(buckets(entry.requests_per_minute, 0))
        self._client = openai.AsyncOpenAI(
            base_url=entry.base_url, api_key=api_key, timeout=entry.timeout_seconds, max_retries=0
        )
        self._client.organization = self._client.project = None  # the SDK takes OpenAI's from the environment

    @property
    def info(self) -> ChatModelInfo:
        """See `ChatModel`."""
        return self._info

    async def ask(self, prompt: Prompt, budget: Budget) -> Answer:
        """See `ChatModel`."""
        async with self._slots:
            return await self._patiently(prompt, budget)

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()

    async def _patiently(self, prompt: Prompt, budget: Budget) -> Answer:
        """Try until it is answered or would be too late; the answer has the price of the tries that were lost, too."""
        until = time.monotonic() + self._entry.patience_seconds
        lost = 0.0
        tries = 0
        while True:
            await self._in_turn(until)
            try:
                return await self._paid(prompt, budget, lost, until)
            except TryAgain as failure:
                tries += 1
                lost += 0.0 if failure.refused else self._most_dollars(prompt)
                pause = await self._pause(tries, failure.told)
                if pause is None or time.monotonic() + pause > until:
                    raise failure.error from None
            await asyncio.sleep(pause)

    async def _in_turn(self, until: float) -> None:
        wait = await self._limiter.reserve(0, until - time.monotonic())
        if time.monotonic() + wait > until:
            message = f"the limits of chat model {self._name!r} are used up for {wait:.1f} s"
            raise UpstreamRateLimited(message, retry_after=wait)
        await asyncio.sleep(wait)

    async def _pause(self, tries: int, told: float | None) -> float | None:
        if told is not None:
            await self._limiter.pause(told)
        return _RETRIES.pause(tries, told)

    async def _paid(self, prompt: Prompt, budget: Budget, lost: float, until: float) -> Answer:
        """One try. What may have been computed counts at its highest price where the answer is lost."""
        reserved = self._most_dollars(prompt)
        budget.reserve(reserved)
        spent = reserved
        try:
            answer = await self._counted(prompt, lost, until)
            spent = answer.dollars - lost
            return answer
        except TryAgain as failure:
            spent = 0.0 if failure.refused else reserved
            raise
        except EmbedscaleError:
            spent = 0.0
            raise
        finally:
            budget.settle(reserved, spent)

    async def _counted(self, prompt: Prompt, lost: float, until: float) -> Answer:
        try:
            answer = await self._tried(prompt, lost, until)
        except (TryAgain, EmbedscaleError) as failure:
            error = failure.error if isinstance(failure, TryAgain) else failure
            CHAT_CALLS.labels(self._name, type(error).__name__).inc()
            raise
        CHAT_CALLS.labels(self._name, "ok").inc()
        CHAT_TOKENS.labels(self._name).inc(answer.input_tokens + answer.output_tokens)
        CHAT_DOLLARS.labels(self._name).inc(answer.dollars)
        return answer

    async def _tried(self, prompt: Prompt, lost: float, until: float) -> Answer:
        try:
            async with asyncio.timeout(min(self._entry.timeout_seconds, max(until - time.monotonic(), 0.0))):
                text, is_cut, usage = await (self._complete if self._info.is_base else self._chat)(prompt)
        except TimeoutError:
            slow = UpstreamUnavailable(f"chat model {self._name!r} did not answer in time")
            raise TryAgain(slow, refused=False) from None
        except openai.OpenAIError as error:
            raise translated(error, self._name, "a completion") from None
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
            raise UpstreamChanged(f"chat model {self._name!r} did not answer as its API does") from None
        text = text.encode("utf-8", "ignore").decode()  # JSON may hold half of a surrogate pair, which no file can
        given, written = _tokens(usage, prompt, text)
        return Answer(text, given, written, self._info.dollars(given, written) + lost, is_cut)

    async def _chat(self, prompt: Prompt) -> tuple[str, bool, CompletionUsage | None]:
        messages = [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.text}]
        asked: dict[str, Any] = {"messages": messages, **self._sampling(prompt, self._entry.token_limit)}
        if prompt.schema:
            schema = {"name": "questions", "strict": True, "schema": prompt.schema}
            asked["response_format"] = {"type": "json_schema", "json_schema": schema}
        answer = await self._client.chat.completions.create(model=self._entry.upstream_model, **asked)
        if not answer.choices:
            return "", False, answer.usage
        choice = answer.choices[0]
        written = choice.message.content or choice.message.refusal or ""
        return str(written), choice.finish_reason == "length", answer.usage

    async def _complete(self, prompt: Prompt) -> tuple[str, bool, CompletionUsage | None]:
        answer = await self._client.completions.create(
            model=self._entry.upstream_model,
            prompt=prompt.text,
            stop=list(prompt.stop),
            **self._sampling(prompt, "max_tokens"),
        )
        return str(answer.choices[0].text), answer.choices[0].finish_reason == "length", answer.usage

    def _sampling(self, prompt: Prompt, token_limit: str) -> dict[str, Any]:
        """Parameters that both APIs have; those that the model refuses to be told are left out."""
        entry = self._entry
        sent = {
            token_limit: prompt.max_tokens,
            "temperature": entry.temperature,
            "seed": None if entry.seed is None else (entry.seed + prompt.seed) % 2**31,
        }
        return {name: value for name, value in sent.items() if value is not None}

    def _most_dollars(self, prompt: Prompt) -> float:
        return self._info.dollars(_estimated(prompt.system + prompt.text), prompt.max_tokens)


def _tokens(usage: CompletionUsage | None, prompt: Prompt, text: str) -> tuple[int, int]:
    """Tokens of prompt and answer; estimated where the endpoint does not tell."""
    try:
        told = (int(usage.prompt_tokens), int(usage.completion_tokens)) if usage else (-1, -1)
    except (ArithmeticError, TypeError, ValueError):  # the SDK takes what it is given
        told = (-1, -1)
    return told if min(told) >= 0 else (_estimated(prompt.system + prompt.text), _estimated(text))


def _estimated(text: str) -> int:
    return len(text.encode()) // _BYTES_PER_TOKEN
