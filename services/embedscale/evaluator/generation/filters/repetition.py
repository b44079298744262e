"""Questions that were asked before, in the same words or nearly."""

import re
import unicodedata
from collections.abc import Mapping

from embedscale.evaluator.audit.near_duplicates import near

_BETWEEN = re.compile(r"[\W_]+")
_NUMBER = re.compile(r"\d+")


def normal(text: str) -> str:
    """Return the text with neither case nor punctuation; equal for questions that are the same."""
    return _BETWEEN.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def near_duplicates(texts: Mapping[int, str], similar: float) -> list[int]:
    """Keys of the texts that are near to an earlier one and name the same numbers: "Article 5" is not "Article 6"."""
    keys = list(texts)
    normals = [normal(texts[key]) for key in keys]
    found = near(normals, similar)
    return [keys[later] for later, first in found.items() if _numbers(normals[later]) == _numbers(normals[first])]


def _numbers(text: str) -> list[str]:
    return _NUMBER.findall(text)
