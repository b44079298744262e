"""A generated set as a data set: the chunks are its documents, and judgements say which of them answer a question.

Ids are stable: a chunk's names its document and span, a question's is made of its text and first chunk.
"""

from collections.abc import Callable, Mapping, Sequence

from embedscale.core.documents import Chunk
from embedscale.core.generation import Candidate
from embedscale.evaluator.datasets.intake import Intake, content_id
from embedscale.evaluator.generation.relevance import Relevance

_ENCODED = {ord("\t"): "%09", ord("\n"): "%0A", ord("\r"): "%0D"}


def filling(
    candidates: Sequence[Candidate], chunks: Mapping[str, Chunk], language: str, title: str = ""
) -> Callable[[Intake], None]:
    """Return what puts the set into an intake: `DatasetStore.add(uri, filling(...), lenient=False, stop=stop)`.

    Chunks without a question are documents too: they make the search as hard as it is.
    """

    def fill(intake: Intake) -> None:
        intake.languages, intake.title = (language,), title
        intake.content_ids = frozenset({"queries"})
        for key, chunk in chunks.items():
            intake.document(document_id(key), chunk.text, key)
        for candidate, relevant in zip(candidates, Relevance(chunks).of(candidates), strict=True):
            query = question_id(candidate)
            intake.query(query, candidate.text, candidate.text)
            for key in relevant:
                intake.judgement(query, document_id(key), 1, candidate.text)

    return fill


def document_id(chunk_id: str) -> str:
    """Id of a chunk as a document: the same, but for tabs and line breaks, which tables of judgements cannot hold."""
    return chunk_id.translate(_ENCODED)


def question_id(candidate: Candidate) -> str:
    """Id of a question, 32 hexadecimal digits."""
    return content_id(f"{candidate.chunks[0]}\n{candidate.text}")
