"""A set of questions that somebody wrote: their answers are looked for in the chunks, and no chat model is asked."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from embedscale.core.documents import Chunk
from embedscale.core.errors import DatasetInvalid
from embedscale.core.generation import (
    Candidate,
    Estimate,
    GenerationSpec,
    Progress,
    Stage,
    Tally,
    WrittenQuestion,
)
from embedscale.evaluator.generation.cutting import Cutting
from embedscale.evaluator.generation.keeping import kept_set
from embedscale.evaluator.generation.manifest import manifest
from embedscale.evaluator.generation.relevance import SHORTEST_QUOTE, letters_of
from embedscale.evaluator.generation.tools import Tools

_TOLD = 5


class ByHand:
    """Makes one set."""

    def __init__(self, tools: Tools, spec: GenerationSpec) -> None:
        self._tools = tools
        self._spec = spec
        self._cutting = Cutting(tools, spec)

    async def steps(self, *, estimate_only: bool) -> AsyncGenerator[Progress, None]:
        """Go through all stages, and say how far it is. Raises errors of the domain's tree."""
        async with aclosing(self._cutting.read()) as reading:
            async for done in reading:
                yield Progress(Stage.READ, done)
        documents, chunks, warnings = len(self._cutting.of_documents), self._cutting.chunks(), self._cutting.warnings()
        estimate = Estimate(documents, len(chunks))
        yield Progress(Stage.READ, documents, estimate=estimate, warnings=warnings)
        if estimate_only:
            return
        written = self._spec.written
        candidates = await asyncio.to_thread(placed, written, chunks)
        made_from = manifest(self._spec, {}, "", self._cutting.digest())
        title = f"{documents} documents, questions by hand"
        generated = await kept_set(self._tools, candidates, chunks, self._spec.language, title, made_from)
        tally = Tally(written=len(written), kept=generated.dataset.card.query_count)
        yield Progress(
            Stage.WRITE, tally.kept, tally.kept, estimate, tally=tally, warnings=warnings, generated=generated
        )


def placed(written: Sequence[WrittenQuestion], chunks: Mapping[str, Chunk]) -> list[Candidate]:
    """Find the chunks that have each answer, compared by its letters and digits alone. Long work on a processor.

    Raises DatasetInvalid that names the first questions whose answer no chunk has, or which is too short to look for.
    """
    texts = {key: letters_of(chunk.text) for key, chunk in chunks.items()}
    candidates, faults = [], []
    for question in written:
        wanted = letters_of(question.answer)
        found = tuple(key for key, text in texts.items() if wanted in text)
        if len(wanted) < SHORTEST_QUOTE:
            faults.append(f"{question.text!r}: its answer {question.answer!r} has fewer than {SHORTEST_QUOTE} letters")
        elif not found:
            faults.append(f"{question.text!r}: no chunk has its answer {question.answer!r}")
        else:
            candidates.append(Candidate(question.text, found, quote=question.answer))
    if faults:
        more = f"; and {len(faults) - _TOLD} more" if len(faults) > _TOLD else ""
        raise DatasetInvalid("; ".join(faults[:_TOLD]) + more, field="questions")
    return candidates
