"""One question/answer set in the making: read and cut, ask, filter, judge relevance, keep. See ADR 8."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from embedscale.core.chat import ChatModel, Prompt
from embedscale.core.documents import Chunk
from embedscale.core.errors import (
    DatasetInvalid,
    Draining,
    EmbedscaleError,
    InvalidField,
    UpstreamRejected,
)
from embedscale.core.generation import (
    Candidate,
    Failure,
    Filtered,
    Generated,
    GenerationSpec,
    GenerationUsage,
    Progress,
    Stage,
)
from embedscale.core.ordered import in_order
from embedscale.evaluator.generation.asking import Asking, questions
from embedscale.evaluator.generation.cutting import Cutting
from embedscale.evaluator.generation.estimating import estimated
from embedscale.evaluator.generation.filtering import filtered
from embedscale.evaluator.generation.keeping import kept_set
from embedscale.evaluator.generation.manifest import manifest
from embedscale.evaluator.generation.parsing import Read
from embedscale.evaluator.generation.prompting import Ask, Prompter
from embedscale.evaluator.generation.spending import Spending
from embedscale.evaluator.generation.tallying import after_answer, after_filters, nothing_left
from embedscale.evaluator.generation.tools import Tools

_AHEAD = 4
_REJECTED_AT_MOST = 20
_JUDGE = "You answer with one word."


class Making:
    """Makes one set."""

    def __init__(self, tools: Tools, spec: GenerationSpec, is_draining: Callable[[], bool]) -> None:
        self._tools = tools
        self._spec = spec
        self._is_draining = is_draining
        self._model = self._chat_model(spec.chat_model, "model")
        judge = spec.filtering.judge_model
        self._judge = self._chat_model(judge, "filters.judge_model") if judge else None
        if self._judge and self._judge.info.is_base:
            raise InvalidField(
                f"judge_model {judge!r} is a base model, which cannot judge", field="filters.judge_model"
            )
        self._template = tools.templates.of(spec.language)
        self._prompter = Prompter(self._template, self._model.info, spec)
        limits = [limit for limit in (spec.spending_limit, self._model.info.spending_limit) if limit is not None]
        self._spending = Spending(min(limits, default=None))
        self._asking = Asking(self._model, tools.ledger, self._spending, self._check)
        self._judging = Asking(self._judge, tools.ledger, self._spending, self._check) if self._judge else None
        self._cutting = Cutting(tools, spec)
        self._failure: EmbedscaleError | None = None
        self._now = Progress(Stage.READ)

    async def steps(self, *, estimate_only: bool) -> AsyncGenerator[Progress, None]:
        """Go through all stages, and say how far it is. Raises errors of the domain's tree."""
        async with aclosing(self._cutting.read()) as reading:
            async for done in reading:
                yield self._at(done=done)
        by_id, documents = self._cutting.chunks(), len(self._cutting.of_documents)
        judge = self._judge.info if self._judge else None
        estimate = await estimated(self._asks(), by_id, documents, self._asking, self._model.info, judge)
        yield self._at(estimate=estimate, usage=self._usage(), warnings=self._cutting.warnings())
        if estimate_only:
            return
        candidates: list[Candidate] = []
        async with aclosing(self._ask(candidates)) as asking:
            async for progress in asking:
                yield progress
        yield self._at(stage=Stage.FILTER, done=0, total=len(candidates))
        result = await self._filtered(candidates, by_id)
        yield self._at(done=len(candidates), tally=after_filters(self._now.tally, result), usage=self._usage())
        yield self._at(stage=Stage.WRITE, done=0, total=len(result.kept))
        generated = await self._written(result.kept, by_id)
        yield self._at(done=len(result.kept), generated=generated)

    async def _asks(self) -> AsyncIterator[Ask]:
        for chunks in self._cutting.of_documents.values():
            for ask in self._prompter.asks(chunks):
                yield ask

    async def _ask(self, candidates: list[Candidate]) -> AsyncGenerator[Progress, None]:
        """Ask for every chunk. After an error nothing new is asked, but what was is awaited, since it is paid for."""
        window = _AHEAD * self._model.info.concurrency
        yield self._at(stage=Stage.ASK, done=0, total=self._now.estimate.prompts)
        async with aclosing(in_order(self._answered, self._asks(), window)) as answers:
            async for result in answers:
                if result:
                    candidates += result[1]
                    tally = after_answer(self._now.tally, result[0], self._spec.questions_per_chunk)
                    yield self._at(done=self._now.done + 1, usage=self._usage(), tally=tally)
                    self._refuse_rejected()
        if self._failure:
            raise self._failure

    async def _answered(self, ask: Ask) -> tuple[Read, list[Candidate]] | None:
        try:
            self._check()
            return await questions(ask, self._asking, self._template)
        except EmbedscaleError as error:
            self._failure = self._failure or error
            return None

    def _check(self) -> None:
        """Raise what has ended the asking, if anything has."""
        if self._is_draining():
            message = "this evaluator is shutting down; ask again, and it goes on from here"
            self._failure = self._failure or Draining(message)
        if self._failure:
            raise self._failure

    def _refuse_rejected(self) -> None:
        """Give up where the endpoint takes no prompt at all: its settings are wrong, not the chunks."""
        rejected = self._now.tally.failures.get(Failure.REJECTED, 0)
        if rejected == self._now.done and rejected in (_REJECTED_AT_MOST, self._now.total):
            message = f"chat model {self._model.info.name!r} rejected each of the first {rejected} prompts"
            self._failure = self._failure or UpstreamRejected(message)

    async def _filtered(self, candidates: Sequence[Candidate], chunks: Mapping[str, Chunk]) -> Filtered:
        verdict = self._verdict if self._judging else None
        result = await filtered(candidates, chunks, self._spec.filtering, self._tools.retriever, verdict)
        if self._failure:
            raise self._failure
        return result

    async def _verdict(self, text: str) -> str:
        """What the judge says; nothing, which leaves a question undecided, if the endpoint takes no such prompt.

        After an error nothing more is asked here either, and what was is awaited.
        """
        asking = self._judging
        if asking is None:
            return ""
        prompt = Prompt(text, _JUDGE, max_tokens=asking.model.tokens_per_question, seed=self._spec.seed)
        try:
            self._check()
            return (await asking.answer("judge", prompt)).text
        except UpstreamRejected:
            return ""
        except EmbedscaleError as error:
            self._failure = self._failure or error
            return ""

    async def _written(self, kept: Sequence[Candidate], chunks: Mapping[str, Chunk]) -> Generated:
        if not kept:
            raise DatasetInvalid(nothing_left(self._now.tally), field="documents")
        models = {"questions": self._model.info} | ({"judge": self._judge.info} if self._judge else {})
        made_from = manifest(self._spec, models, self._template.digest, self._cutting.digest())
        title = f"{len(self._cutting.of_documents)} documents, {self._model.info.name}"
        return await kept_set(self._tools, kept, chunks, self._spec.language, title, made_from)

    def _chat_model(self, name: str, field: str) -> ChatModel:
        model = self._tools.models.get(name)
        if model is None:
            known = ", ".join(sorted(self._tools.models)) or "none: the evaluator was given no chat_models_file"
            raise InvalidField(f"{field} {name!r} is not a chat model of this evaluator; it has {known}", field=field)
        return model

    def _usage(self) -> GenerationUsage:
        return self._asking.usage + self._judging.usage if self._judging else self._asking.usage

    def _at(self, **changes: Any) -> Progress:
        self._now = replace(self._now, **changes)
        return self._now
