"""Where sentences begin and end.

The library sentencex finds the places where one may end. Where it is mistaken it splits too much: at ordinals (Czech
"5. června"), initials, titles, and at quotes that a sentence goes on after. So some of its boundaries are taken back,
and where that is in doubt, too: two sentences together do less harm than half a one.
"""

import re
from collections.abc import Iterator

from embedscale.evaluator.documents.abbreviations import TITLES, before_number

Span = tuple[int, int]

_WINDOW = 2000
"""sentencex takes time by the square of what it is given."""
_MARGIN = 200
_ITEM = r"(?:[-*•‣▪–—]|\(?\d{1,3}[.)](?!\s+[^\W\d_A-Z])|\(?[a-z]{1,2}\)|\([ivx]{1,4}\))[ \t\xa0]+(?=\S)"
_BREAK = re.compile(rf"\n[ \t]*\n\s*|\n[ \t]*(?={_ITEM})")
_BRACKETED = re.compile(r"""(?<=[^\W\d_]{4}[.!?][)\]”"»])\s+(?=[^\W\d_])""")
"""sentencex sees no end in a bracket or quote that closes after its full stop."""
_LOWER = re.compile(r"""[\s"'“”„«»‹›‘’‚(\[{¿¡–—-]*([^\W\d_])""")
_LETTERED = re.compile(r"\(?[a-z]{1,2}\)|\([ivx]{1,4}\)")
_MARKER = re.compile(r"\W*(?:제?\d{1,4}(?:\.\d{1,3})*[조항장절관]?|[^\W\d_]|[ivxlcdm]{1,6})[.)]", re.IGNORECASE)
_LAST_WORD = re.compile(r"(?<![^\W\d_])([^\W\d_]+)\.$")
_ROMAN = re.compile(r"[IVXLCDM]{1,6}")
_ORDINAL = re.compile(r"(?<!\w)\d{1,4}\.$")
_CLOSED = tuple("」』）)”’\"'»")
_WITHOUT_SPACES = re.compile(r"[\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef。！？]")
_GOES_ON = re.compile(r"と|って|が|を|に|の|で|も|は(?![いあ])|、|など")
_DOTTED_ORDINALS = ("cs", "hu", "sk", "de", "pl", "da", "fi", "hr", "sl")


def sentences(text: str, language: str) -> Iterator[Span]:
    """Spans of the sentences in a text, `text[start:end]` without space around it; only space lies between them.

    An empty line ends a sentence, and so does a line that begins like an item of a list; other line ends do not.
    `language` is a BCP 47 tag, of which sentencex knows about 300; any other is taken for English.
    """
    language = language.split("-")[0].lower()
    start = 0
    for found in _BREAK.finditer(text):
        yield from _within(text, start, found.start(), language)
        start = found.end()
    yield from _within(text, start, len(text), language)


def _within(text: str, start: int, end: int, language: str) -> Iterator[Span]:
    begin = _skip_space(text, start, end)
    for place in _candidates(text, begin, end, language):
        after = _skip_space(text, place, end)
        before = _back_over_space(text, begin, place)
        if before > begin and after < end and _ends(text, begin, before, after, language):
            yield begin, before
            begin = after
    end = _back_over_space(text, begin, end)
    if end > begin:
        yield begin, end


def _skip_space(text: str, start: int, end: int) -> int:
    while start < end and text[start].isspace():
        start += 1
    return start


def _back_over_space(text: str, start: int, end: int) -> int:
    while end > start and text[end - 1].isspace():
        end -= 1
    return end


def _candidates(text: str, start: int, end: int, language: str) -> Iterator[int]:
    import sentencex  # not every evaluator cuts documents

    while start < end:
        stop = min(start + _WINDOW, end)
        sure = stop if stop == end else stop - _MARGIN  # near a window's end it cannot see what follows
        found = sentencex.get_sentence_boundaries(language, text[start:stop])
        places = [start + int(one["end_index"]) for one in found]
        places += [one.end() for one in _BRACKETED.finditer(text, start, stop)]
        places = sorted({place for place in places if start < place <= sure})
        yield from places
        start = places[-1] if places and stop < end else sure


def _ends(text: str, begin: int, before: int, after: int, language: str) -> bool:
    """Whether the sentence that begins at `begin` ends at `before`, and the next one begins at `after`."""
    left, right = text[max(begin, before - 50) : before], text[after : after + 20]
    lower = _LOWER.match(right)
    if lower and lower[1].islower() and not ("\n" in text[before:after] and _LETTERED.match(right)):
        return False
    if left[-1].isalnum() or left[-1] in ",;":
        return False
    if right[0] == "[":  # the mark of a note, or a gap to be filled, belongs to what stands before it
        return False
    if before - begin < 10 and _MARKER.fullmatch(text[begin:before]):
        return False
    if before == after:
        return _ends_without_space(left, right)
    return not _is_abbreviated(left, right, language)


def _ends_without_space(left: str, right: str) -> bool:
    if not (_WITHOUT_SPACES.match(left[-1]) or _WITHOUT_SPACES.match(right[0])):
        return False
    return not (left.endswith(_CLOSED) and _GOES_ON.match(right))


def _is_abbreviated(left: str, right: str, language: str) -> bool:
    if language in _DOTTED_ORDINALS and _ORDINAL.search(left):
        return right[0].isdigit()
    word = _LAST_WORD.search(left)
    if word is None:
        return False
    name = word[1]
    if len(name) == 1 and name.isupper():
        return language != "en" or name != "I"
    if _ROMAN.fullmatch(name) and language in _DOTTED_ORDINALS:
        return True
    return name.lower() in TITLES or (right[0] in "0123456789(§" and name.lower() in before_number(language))
