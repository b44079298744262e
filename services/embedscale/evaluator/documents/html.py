"""What a web page says, without its scripts, styles and navigation."""

import re
from collections.abc import Iterator

from embedscale.core.errors import DatasetInvalid
from embedscale.evaluator.documents.text import Block, Parsed, decoded, joined, normalised

_DROPPED_TAGS = """aside button canvas datalist dialog footer form head iframe math nav noscript object script
select style svg template textarea"""
_BLOCK_TAGS = """address article blockquote body caption center dd details div dl dt fieldset figcaption figure h1
h2 h3 h4 h5 h6 header hr html li main ol p pre section summary table tbody tfoot thead tr ul"""
_DROPPED = frozenset(_DROPPED_TAGS.split())
_BLOCKS = frozenset(_BLOCK_TAGS.split())
_CELLS = frozenset(["td", "th"])
_CLOSE = frozenset(["li", "tr", "dd", "dt"])
_HEADING = re.compile(r"h([1-6])")
_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w-]{1,40})""", re.IGNORECASE)
_CHARSETS = re.compile(
    r"utf-?8|utf-?16\w*|us-ascii|latin-?[1-9]|iso-?8859-\d+|windows-\d+|cp\d+|koi8-[ru]|shift[_-]jis|euc-(jp|kr)|"
    r"iso-2022-jp|gb2312|gbk|gb18030|big5|ks_c_5601-1987",
    re.IGNORECASE,
)
_LATIN = re.compile(r"us-ascii|latin-?1|iso-?8859-1", re.IGNORECASE)
_START = 4096


def read_html(name: str, data: bytes) -> Parsed:
    """Read a page in the charset that it states, or UTF-8. Raises DatasetInvalid."""
    return joined(_blocks(decoded(name, data, _charset(name, data))))


def inner_text(markup: str) -> str:
    """The text of a piece of HTML."""
    return "\n".join(block.text for block in _blocks(markup))


def looks_like_html(data: bytes) -> bool:
    """Whether bytes begin like a page."""
    return bool(re.match(rb"\s*(?:<!--.*?-->\s*)*<(?:!doctype html|html|head|body)\b", data[:_START], re.I | re.S))


def _charset(name: str, data: bytes) -> str:
    found = _CHARSET.search(data[:_START])
    charset = found[1].decode() if found else "utf-8"
    if not _CHARSETS.fullmatch(charset):
        raise DatasetInvalid(f"{name}: unknown charset {charset!r}; save it as UTF-8", field="documents")
    return "cp1252" if _LATIN.fullmatch(charset) else charset  # as browsers do


def _blocks(markup: str) -> Iterator[Block]:
    from lxml import etree

    # A target is told of tags one by one: no tree grows, however deep tags are nested.
    parser = etree.HTMLParser(target=_Page(), encoding="utf-8", recover=True)
    parser.feed(normalised(markup).encode())
    return iter(parser.close())


class _Page:
    """Collects blocks while lxml walks through the tags."""

    def __init__(self) -> None:
        self._blocks: list[Block] = []
        self._parts: list[str] = []
        self._dropped = 0
        self._preformatted = 0
        self._level = 0
        self._apart = True

    def start(self, tag: str, _: object) -> None:
        self._dropped += tag in _DROPPED
        if tag in _BLOCKS:
            self._flush()
            self._apart = tag not in _CLOSE
            self._preformatted += tag == "pre"
        if heading := _HEADING.fullmatch(tag):
            self._level = int(heading[1])
        if tag == "li":
            self._parts.append("- ")
        elif tag == "br":
            self._parts.append("\0")
        elif tag in _CELLS and self._parts:
            self._parts.append(" | ")

    def end(self, tag: str) -> None:
        self._dropped -= tag in _DROPPED
        if tag in _BLOCKS:
            self._flush()
            self._preformatted -= tag == "pre"

    def data(self, text: str) -> None:
        if not self._dropped:
            self._parts.append(text)

    def close(self) -> list[Block]:
        self._flush()
        return self._blocks

    def _flush(self) -> None:
        text = "".join(self._parts)
        if not self._preformatted:
            text = "\n".join(" ".join(line.split()) for line in text.split("\0"))
        if text.strip("- |\n\0"):
            self._blocks.append(Block(text, self._level, self._apart))
        self._parts, self._level, self._apart = [], 0, True
