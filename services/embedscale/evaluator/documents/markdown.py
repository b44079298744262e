"""Markdown without its marks."""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from embedscale.evaluator.documents.html import inner_text
from embedscale.evaluator.documents.text import Block, Parsed, decoded, joined, normalised

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n.*?\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_MOST_NESTING = 100
"""What is nested deeper, in quotes or lists, is left out."""
_MOST_INLINE = 20_000
"""Longer paragraphs keep their marks: the time to find them may grow with the square of the length."""


def read_markdown(name: str, data: bytes) -> Parsed:
    """Read CommonMark with tables. Front matter is left out. Raises DatasetInvalid."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"maxNesting": _MOST_NESTING}).enable("table").disable(["inline", "text_join"])
    source = _FRONT_MATTER.sub("", normalised(decoded(name, data)))
    references: dict[str, Any] = {}
    tokens = parser.parse(source, references)
    parser.enable(["inline", "text_join"])
    return joined(_Blocks(parser, references).of(tokens))


class _Blocks:
    """Turns markdown-it's tokens into blocks."""

    def __init__(self, parser: "MarkdownIt", references: dict[str, Any]) -> None:
        self._parser = parser
        self._references = references
        self._level = 0
        self._item = ""
        self._cells: list[str] | None = None

    def of(self, tokens: "Sequence[Token]") -> Iterator[Block]:
        for token in tokens:
            if token.type == "heading_open":
                self._level = int(token.tag[1:])
            elif token.type == "list_item_open":
                self._item = f"{token.info}{token.markup} " if token.info else "- "
            elif token.type == "tr_open":
                self._cells = []
            elif token.type == "tr_close" and self._cells is not None:
                yield Block(" | ".join(self._cells), apart=False)
                self._cells = None
            elif token.type in ("inline", "fence", "code_block", "html_block"):
                yield from self._block(token)

    def _block(self, token: "Token") -> Iterator[Block]:
        text = self._text(token)
        if self._cells is not None:
            self._cells.append(text)
            return
        item, level = self._item, self._level
        self._item, self._level = "", 0
        yield Block(item + text, level, apart=not item)

    def _text(self, token: "Token") -> str:
        if token.type == "html_block":
            return inner_text(token.content)
        if token.type != "inline" or len(token.content) > _MOST_INLINE:
            return token.content
        spans = self._parser.parseInline(token.content, self._references)[0].children or []
        return "".join(_shown(span) for span in spans)


def _shown(span: "Token") -> str:
    if span.type in ("softbreak", "hardbreak"):
        return "\n"
    if span.type == "image":
        return "".join(_shown(child) for child in span.children or [])
    return span.content if span.type in ("text", "code_inline") else ""
