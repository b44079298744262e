"""Which of the questions that a language model wrote are worth keeping, and why the others are not."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from embedscale.core.documents import Chunk
from embedscale.core.generation import Candidate, Filtered, Filtering, Reason
from embedscale.evaluator.generation.filters.judging import Ask, judged
from embedscale.evaluator.generation.filters.language import LanguageFilter
from embedscale.evaluator.generation.filters.length import columns
from embedscale.evaluator.generation.filters.preamble import is_preamble
from embedscale.evaluator.generation.filters.repetition import near_duplicates, normal
from embedscale.evaluator.generation.filters.round_trip import Retriever, rivals
from embedscale.evaluator.generation.filters.source import is_copied, names_source

_SLICE = 256

ToolT = TypeVar("ToolT")
Chunks = Mapping[str, Chunk]
Faulty = Callable[[Candidate], bool]


async def filtered(
    candidates: Sequence[Candidate],
    chunks: Chunks,
    filtering: Filtering,
    retriever: Retriever | None = None,
    ask: Ask | None = None,
) -> Filtered:
    """Apply the filters that are on, in the order of `Reason`; `chunks` are all that the set will have, by id.

    `retriever` is for the round trip; `ask`, which gives a prompt to the judge and returns its answer, for the judge.
    Raises what these raise, ValueError where one is needed and not given, KeyError for a chunk that is unknown.
    """
    run = _Run(candidates, filtering)
    await run.check(await asyncio.to_thread(_checks, chunks, filtering))
    await asyncio.to_thread(run.join_duplicates)
    await run.drop_near_duplicates()
    above: Mapping[int, Sequence[str]] = {}
    if filtering.round_trip_model and run.uses(Reason.ROUND_TRIP):
        above = await rivals(run.left, chunks, filtering, _given(retriever))
        run.drop([place for place in run.left if place not in above], Reason.ROUND_TRIP)
    if filtering.judge_model and run.uses(Reason.JUDGE):
        run.take(await judged(run.left, chunks, above, _given(ask)))
    return run.result()


def _checks(chunks: Chunks, filtering: Filtering) -> Mapping[Reason, Faulty]:
    """What is told of one candidate alone. Loads a model: not for the event loop."""
    language = LanguageFilter(filtering.language)
    lengths = range(filtering.min_characters, filtering.max_characters + 1)
    return {
        Reason.PREAMBLE: lambda candidate: is_preamble(candidate.text),
        Reason.LENGTH: lambda candidate: columns(candidate.text) not in lengths,
        Reason.LANGUAGE: lambda candidate: language.is_other(candidate.text),
        Reason.CONTEXT_LEAK: lambda candidate: names_source(candidate.text),
        Reason.COPYING: lambda candidate: is_copied(candidate, chunks, filtering.max_copied_words),
    }


class _Run:
    """The candidates by place: those that are left, and why the others are not."""

    def __init__(self, candidates: Sequence[Candidate], filtering: Filtering) -> None:
        self.left = dict(enumerate(candidates))
        self.undecided = 0
        self._filtering = filtering
        self._dropped: dict[int, tuple[Candidate, Reason]] = {}

    def uses(self, reason: Reason) -> bool:
        return reason not in self._filtering.off

    def drop(self, places: Sequence[int], reason: Reason) -> None:
        for place in places:
            self._dropped[place] = self.left.pop(place), reason

    async def check(self, checks: Mapping[Reason, Faulty]) -> None:
        used = {reason: faulty for reason, faulty in checks.items() if self.uses(reason)}
        for places in _slices(list(self.left)):
            found = await asyncio.to_thread(_first_faults, [self.left[place] for place in places], used)
            for place, reason in zip(places, found, strict=True):
                if reason:
                    self.drop([place], reason)

    def join_duplicates(self) -> None:
        """A question that is asked of several chunks has an answer in each."""
        if not self.uses(Reason.DUPLICATE):
            return
        first: dict[str, int] = {}
        for place, candidate in list(self.left.items()):
            kept = first.setdefault(normal(candidate.text), place)
            if kept != place:
                about = dict.fromkeys(self.left[kept].chunks + candidate.chunks)
                self.left[kept] = replace(self.left[kept], chunks=tuple(about))
                self.drop([place], Reason.DUPLICATE)

    async def drop_near_duplicates(self) -> None:
        if self.uses(Reason.NEAR_DUPLICATE):
            texts = {place: candidate.text for place, candidate in self.left.items()}
            near = await asyncio.to_thread(near_duplicates, texts, self._filtering.near_duplicate)
            self.drop(near, Reason.NEAR_DUPLICATE)

    def take(self, verdicts: Mapping[int, bool | None]) -> None:
        self.undecided = sum(verdict is None for verdict in verdicts.values())
        self.drop([place for place, verdict in verdicts.items() if verdict is False], Reason.JUDGE)

    def result(self) -> Filtered:
        dropped = [self._dropped[place] for place in sorted(self._dropped)]
        return Filtered(list(self.left.values()), dropped, self.undecided)


def _given(tool: ToolT | None) -> ToolT:
    if tool is None:
        raise ValueError("a model is named, and nothing is given that reaches it")
    return tool


def _first_faults(candidates: Sequence[Candidate], checks: Mapping[Reason, Faulty]) -> list[Reason | None]:
    return [next((reason for reason, faulty in checks.items() if faulty(one)), None) for one in candidates]


def _slices(places: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(places), _SLICE):
        yield places[start : start + _SLICE]
