"""Questions that somebody wrote find the chunks with their answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedscale.core.documents import Chunk
from embedscale.core.errors import DatasetInvalid
from embedscale.core.generation import WrittenQuestion
from embedscale.evaluator.generation.by_hand import placed

CHUNKS = {
    chunk.id: chunk
    for chunk in (
        Chunk("fees.md", 0, 52, "The fee is forty crowns. It is paid on the fifth day", 12),
        Chunk("fees.md", 25, 74, "It is paid on the fifth day. Later costs 9 crowns", 12),
        Chunk("été.pdf", 0, 40, "Le café ferme\nà dix-neuf heures, l’été à vingt.", 12),
    )
}
FIRST, SECOND, FRENCH = CHUNKS


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("forty crowns", (FIRST,)),
        ("paid on the fifth day", (FIRST, SECOND)),
        ("le cafe ferme a dix-neuf heures", (FRENCH,)),
        ("FERME à dix neuf HEURES; l'ete", (FRENCH,)),
    ],
)
def test_all_chunks_with_the_words_are_relevant(answer: str, found: tuple[str, ...]) -> None:
    (candidate,) = placed([WrittenQuestion("When?", answer)], CHUNKS)
    assert (candidate.text, candidate.chunks, candidate.quote) == ("When?", found, answer)


def test_answers_that_are_not_there_are_named() -> None:
    written = [WrittenQuestion("What?", "the fee is fifty"), WrittenQuestion("Who?", "9 c")]
    with pytest.raises(
        DatasetInvalid, match=r"'What\?': no chunk has its answer 'the fee is fifty'; 'Who\?': .* fewer"
    ):
        placed(written, CHUNKS)
    with pytest.raises(DatasetInvalid, match=r"; and 2 more"):
        placed([WrittenQuestion(f"Q{number}", "not there") for number in range(7)], CHUNKS)


@given(st.data())
def test_any_words_of_a_chunk_find_it(data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(list(CHUNKS)))
    words = CHUNKS[key].text.split()
    start = data.draw(st.integers(0, len(words) - 3))
    answer = " ".join(words[start : start + data.draw(st.integers(3, len(words)))])
    (candidate,) = placed([WrittenQuestion("Which?", answer)], CHUNKS)
    assert key in candidate.chunks
