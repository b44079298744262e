"""A generated set as a data set: the chunks are its documents, and judgements say which of them answer a question.

Ids are stable: a chunk's names its document and span, a question's is made from its text and first chunk. Files in the
layouts of LlamaIndex and BEIR are written on the client's side, by `embedscale.client.dataset_files`.
"""

from collections.abc import Callable, Mapping, Sequence

from embedscale.core.documents import Chunk
from embedscale.core.generation import Candidate
from embedscale.evaluator.datasets.intake import Intake, content_id
from embedscale.evaluator.generation.relevance import Relevance

_AT_ONCE = 256


def filling(
    candidates: Sequence[Candidate], chunks: Mapping[str, Chunk], language: str, title: str = ""
) -> Callable[[Intake], None]:
    """Return what puts the set into an intake: `DatasetStore.add(uri, filling(...), lenient=False, stop=stop)`."""

    def fill(intake: Intake) -> None:
        intake.languages, intake.title = (language,), title
        for key, chunk in chunks.items():
            intake.document(key, chunk.text, key)
        relevance = Relevance(chunks)
        for start in range(0, len(candidates), _AT_ONCE):
            part = candidates[start : start + _AT_ONCE]
            for candidate, relevant in zip(part, relevance.of(part), strict=True):
                query = question_id(candidate)
                intake.query(query, candidate.text, query)
                for document in relevant:
                    intake.judgement(query, document, 1, query)

    return fill


def question_id(candidate: Candidate) -> str:
    """Id of a question, 32 hexadecimal digits."""
    return content_id(f"{candidate.chunks[0]}\n{candidate.text}")
