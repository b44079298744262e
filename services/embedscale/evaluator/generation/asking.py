"""Asks for questions: of the ledger what it has, the rest of the model, and once more what cannot be read."""

import asyncio
import hashlib
import json
from collections.abc import Callable

from embedscale.core.chat import Answer, ChatModel, ChatModelInfo, Prompt
from embedscale.core.errors import UpstreamRejected
from embedscale.core.generation import Candidate, Failure, GenerationUsage
from embedscale.evaluator.generation.ledger import Ledger
from embedscale.evaluator.generation.parsing import Read, read
from embedscale.evaluator.generation.prompting import Ask
from embedscale.evaluator.generation.spending import Spending
from embedscale.evaluator.generation.templates import PromptTemplate

QUESTIONS = "questions"
"""What answers with questions are kept under; the prompt says which chunks they are about, whatever their ids are."""


class Asking:
    """The calls that one data set takes of one model; what they took, and what kept ones had taken, is in `usage`."""

    def __init__(self, model: ChatModel, ledger: Ledger, spending: Spending, check: Callable[[], None]) -> None:
        """`check` is called before each call, and raises if there is to be none."""
        self.usage = GenerationUsage()
        self.model = model.info
        self._model = model
        self._ledger = ledger
        self._spending = spending
        self._check = check
        self._identity = identity_digest(model.info)
        self._slots = asyncio.Semaphore(model.info.concurrency)
        self._counted: set[tuple[str, str]] = set()

    async def kept(self, role: str, prompt: Prompt) -> Answer | None:
        """Answer that was given before, if there is one; its price counts, once, as if it were paid now."""
        answer = await self._ledger.get(self._identity, role, prompt.digest)
        if answer and (role, prompt.digest) not in self._counted:
            self._spending.add(answer.dollars)
            self._count(role, prompt, answer, is_new=False)
        return answer

    async def answer(self, role: str, prompt: Prompt) -> Answer:
        """Answer, kept or new; who asks the same at the same time waits. Raises as `ChatModel.ask`."""
        async with self._ledger.held(self._identity, role, prompt.digest):
            kept = await self.kept(role, prompt)
            if kept:
                return kept
            async with self._slots:  # until it is kept: whatever happens, no more than these are lost
                self._check()  # it may have waited long for its slot
                answer = await self._model.ask(prompt, self._spending)
                await self._ledger.put(self._identity, role, prompt.digest, answer)
        self._count(role, prompt, answer, is_new=True)
        return answer

    def _count(self, role: str, prompt: Prompt, answer: Answer, *, is_new: bool) -> None:
        self._counted.add((role, prompt.digest))
        self.usage += GenerationUsage(is_new, not is_new, answer.input_tokens, answer.output_tokens, answer.dollars)


async def questions(ask: Ask, asking: Asking, template: PromptTemplate) -> tuple[Read, list[Candidate]]:
    """Ask, and once more, reminded of the form, if the answer cannot be read; what an endpoint rejects is a failure."""
    result = Read(failure=Failure.REJECTED)
    for prompt in (ask.prompt, ask.reminder):
        if prompt is None:
            break
        try:
            answer = await asking.answer(QUESTIONS, prompt)
        except UpstreamRejected:
            break
        result = read(answer.text, ask.count, template.refusals, is_cut=answer.is_cut)
        if result.failure is not Failure.UNREADABLE:
            break
    found = [Candidate(question.text, ask.chunks, ask.style, question.quote) for question in result.questions]
    return result, found


def identity_digest(model: ChatModelInfo) -> str:
    """SHA-256 of all that the model's answers depend on beside the prompt."""
    return hashlib.sha256(json.dumps(model.identity, sort_keys=True).encode()).hexdigest()
