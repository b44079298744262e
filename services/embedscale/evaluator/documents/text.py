"""Text as documents have it, whatever they were written with."""

import codecs
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from embedscale.core.documents import Heading
from embedscale.core.errors import DatasetInvalid

_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_LINE_ENDS = re.compile(r"\r\n?|[\v\f\x85\u2028\u2029]")
_NO_TEXT = re.compile("[\x00-\x08\x0e-\x1f\x7f\ufeff\ud800-\udfff]")
_BINARY = [chr(code) for code in (*range(9), *range(14, 27), *range(28, 32))]
_MOST_BINARY = 0.01


@dataclass(frozen=True)
class Parsed:
    """What a reader makes of a file: its text and the headings in it."""

    text: str
    headings: tuple[Heading, ...] = ()


@dataclass(frozen=True)
class Block:
    """A paragraph, list item, table row or heading; `level` is that of a heading, else 0."""

    text: str
    level: int = 0
    apart: bool = True
    """Whether an empty line stands before it."""


def decoded(name: str, data: bytes, charset: str = "utf-8") -> str:
    """Decode by the byte order mark, else by the charset. Raises DatasetInvalid."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            data, charset = data[len(mark) :], encoding
            break
    try:
        text = data.decode(charset)
    except (UnicodeDecodeError, LookupError) as error:
        place = f" at byte {error.start}" if isinstance(error, UnicodeDecodeError) else ""
        raise DatasetInvalid(f"{name}: not {charset} text{place}; save it as UTF-8", field="documents") from None
    if sum(map(text.count, _BINARY)) > len(text) * _MOST_BINARY:
        raise DatasetInvalid(f"{name}: binary data, not text", field="documents")
    return text


def normalised(text: str) -> str:
    """One form for texts that look the same: NFC, lines that end with LF, no characters that show nothing.

    NFC joins letters and accents that some systems write apart, and changes no letter; NFKC, which would make 2 of ²,
    is not applied. A control character, a byte order mark or half of a surrogate pair is left out.
    """
    return unicodedata.normalize("NFC", _NO_TEXT.sub("", _LINE_ENDS.sub("\n", text)))


def joined(blocks: Iterable[Block]) -> Parsed:
    """Put blocks together, an empty line between those that stand apart; empty ones are left out."""
    texts: list[str] = []
    headings: list[Heading] = []
    length = last = 0
    for block in blocks:
        text = normalised(block.text).strip("\n").rstrip()
        if not text.strip():
            continue
        apart = block.apart or block.level or (headings and headings[-1].start == last)
        gap = ("\n\n" if apart else "\n") if texts else ""
        last = length + len(gap)
        if block.level:
            headings.append(Heading(last, block.level, " ".join(text.split())))
        texts += [gap, text]
        length = last + len(text)
    return Parsed("".join(texts), tuple(headings))
