"""How long questions are, in a measure that is fair to all writings."""

import unicodedata


def columns(text: str) -> int:
    """Width on a terminal, spaces at the ends left out: a character of Chinese, Japanese or Korean has two columns."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text.strip())
