"""Makes the prompts for chunks: one for each chunk and style."""

import hashlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from embedscale.core.chat import ChatModelInfo, Prompt
from embedscale.core.documents import Chunk
from embedscale.core.errors import InvalidField
from embedscale.core.generation import GenerationSpec, QuestionStyle
from embedscale.evaluator.generation.templates import PromptTemplate, filled

SCHEMA = {
    "type": "object",
    "properties": {
        "questions": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"question": {"type": "string"}, "quote": {"type": "string"}},
                "required": ["question", "quote"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["questions"],
    "additionalProperties": False,
}
_MARK_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Ask:
    """Chunks that questions are wanted about, by id, and the prompt that asks for them.

    `reminder` is what to ask once more when the answer cannot be read; None where that would not help.
    """

    chunks: tuple[str, ...]
    style: QuestionStyle
    count: int
    prompt: Prompt
    reminder: Prompt | None = None


@dataclass(frozen=True)
class Prompter:
    """Makes prompts of a template for a model. Raises InvalidField for a style that the model cannot be asked for."""

    template: PromptTemplate
    model: ChatModelInfo
    spec: GenerationSpec

    def __post_init__(self) -> None:
        known = {QuestionStyle.FACTUAL} if self.model.is_base else set(self.template.tasks)
        if lacking := [style for style in self.spec.styles if style not in known]:
            what = "a base model" if self.model.is_base else f"the prompts in {self.template.language!r}"
            raise InvalidField(f"{what} cannot be asked for style {lacking[0].value!r}", field="styles")

    def asks(self, chunks: Sequence[Chunk]) -> Iterator[Ask]:
        """All asks about the chunks of one document, by chunk and then by style."""
        for place, chunk in enumerate(chunks):
            for style in self.spec.styles:
                about = [chunk]
                if style is QuestionStyle.MULTI_CHUNK:
                    about += _following(chunks, place)
                if len(about) == (2 if style is QuestionStyle.MULTI_CHUNK else 1):
                    yield self._ask(about, style)

    def _ask(self, chunks: Sequence[Chunk], style: QuestionStyle) -> Ask:
        count = self.spec.questions_per_chunk
        prompt = self._completion(chunks[0]) if self.model.is_base else self._instruction(chunks, style)
        again = None
        if not self.model.is_base:
            again = replace(prompt, text=f"{prompt.text}\n\n{filled(self.template.reminder, count)}")
        return Ask(tuple(chunk.id for chunk in chunks), style, count, prompt, again)

    def _instruction(self, chunks: Sequence[Chunk], style: QuestionStyle) -> Prompt:
        told, form = self.template, self.template.schema_ if self.model.follows_schema else self.template.lines
        parts = [told.data, *map(_marked, chunks), filled(told.tasks[style], self.spec.questions_per_chunk), form]
        schema = SCHEMA if self.model.follows_schema else None
        return Prompt("\n\n".join(parts), told.system, schema, self._most_tokens, seed=self.spec.seed)

    def _completion(self, chunk: Chunk) -> Prompt:
        told, count = self.template.examples, self.spec.questions_per_chunk

        def passage(text: str) -> str:
            """On one line, since an empty line is what ends an example."""
            return f"{told.passage} {' '.join(text.split())}\n{told.questions}\n"

        shown = [passage(one.text) + _list(one.questions[:count]) for one in told.shown]
        text = "\n\n".join([told.heading, *shown, passage(chunk.text)])
        return Prompt(text, max_tokens=self._most_tokens, stop=("\n\n", told.passage), seed=self.spec.seed)

    @property
    def _most_tokens(self) -> int:
        return self.model.tokens_per_question * self.spec.questions_per_chunk


def _marked(chunk: Chunk) -> str:
    """The chunk between marks that its text cannot have: they name a digest of it."""
    under = " > ".join(chunk.headings)
    told = f"{under}\n\n{chunk.text}" if under else chunk.text
    mark = hashlib.sha256(told.encode()).hexdigest()[:_MARK_DIGITS]
    return f"<document-{mark}>\n{told}\n</document-{mark}>"


def _list(questions: Sequence[str]) -> str:
    return "\n".join(f"{number}. {question}" for number, question in enumerate(questions, 1))


def _following(chunks: Sequence[Chunk], place: int) -> list[Chunk]:
    """The next chunk of the document that repeats nothing of this one, if there is one."""
    first = bisect_left(chunks, chunks[place].end, lo=place + 1, key=attrgetter("start"))
    return list(chunks[first : first + 1])
