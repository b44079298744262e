"""Questions that stick to the text they were made from: they name it, or repeat it word for word."""

from collections.abc import Mapping

from embedscale.core.documents import Chunk
from embedscale.core.generation import Candidate
from embedscale.evaluator.audit.wording import copied, named_context, words_in


def names_source(text: str) -> bool:
    """Whether a question names the text it was made from, as in "according to the document"."""
    return bool(named_context(text))


def is_copied(candidate: Candidate, chunks: Mapping[str, Chunk], most: int) -> bool:
    """Whether more than `most` words in a row are in the question as in one of its chunks."""
    return words_in(copied(candidate.text, [chunks[key].text for key in candidate.chunks])) > most
