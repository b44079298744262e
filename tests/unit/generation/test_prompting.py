"""Which chunks are asked about together."""

import time

from embedscale.core.chat import ChatModelInfo
from embedscale.core.documents import Chunk, Chunking
from embedscale.core.generation import GenerationSpec, QuestionStyle
from embedscale.evaluator.generation.prompting import Prompter
from embedscale.evaluator.generation.templates import Templates

SPEC = GenerationSpec(("a",), "en", "writer", Chunking("words"), styles=(QuestionStyle.MULTI_CHUNK,))


def pairs(chunks: list[Chunk]) -> list[tuple[str, ...]]:
    return [ask.chunks for ask in Prompter(Templates().of("en"), ChatModelInfo("writer"), SPEC).asks(chunks)]


def test_a_chunk_goes_with_the_next_one_that_repeats_nothing_of_it() -> None:
    spans = [(0, 10), (8, 20), (10, 30), (20, 40), (40, 50)]
    found = pairs([Chunk("a", start, end, "x" * (end - start), 1) for start, end in spans])
    assert found == [("a#0-10", "a#10-30"), ("a#8-20", "a#20-40"), ("a#10-30", "a#40-50"), ("a#20-40", "a#40-50")]


def test_many_chunks_take_no_time_by_their_square() -> None:
    def seconds(count: int) -> float:
        chunks = [Chunk("a", place, place + 1, "x", 1) for place in range(count)]
        before = time.process_time()
        assert len(pairs(chunks)) == count - 1
        return time.process_time() - before

    assert seconds(20_000) < 20 * seconds(2_000) + 1
