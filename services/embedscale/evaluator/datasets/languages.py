"""Tells the language of texts, where their source does not state it."""

from collections import Counter
from collections.abc import Sequence
from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from embedscale.core.dataset import UNDETERMINED

_SURE = 0.9
_MAJORITY = 0.5
_CHARACTERS = 1000
_PARTS = 10
_PART_CHARACTERS = 300
_NO_LANGUAGE = "zxx"


def language_of(texts: Sequence[str]) -> str:
    """BCP 47 tag of the language of more than half of the texts, "und" where there is none.

    Single questions are too short to be told: some are looked at together.
    """
    cut = [text[:_CHARACTERS] for text in texts]
    parts = min(max(sum(map(len, cut)) // _PART_CHARACTERS, 1), _PARTS)
    given = [" ".join(cut[start::parts]) for start in range(parts)]
    votes = Counter(tag for tag, sure in map(_classify, given) if sure >= _SURE and tag != _NO_LANGUAGE)
    tag, count = votes.most_common(1)[0] if votes else (UNDETERMINED, 0)
    return tag if count > _MAJORITY * len(given) else UNDETERMINED


def _classify(text: str) -> tuple[str, float]:
    tag, probability = identifier().classify(text)
    return str(tag), float(probability)


@cache
def identifier() -> LanguageIdentifier:
    """Load the model, which takes a second, unless it is loaded."""
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
