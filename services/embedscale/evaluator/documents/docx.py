"""The text of Word documents."""

import io
import re
import zipfile
from collections.abc import Iterator
from typing import Any

from embedscale.core.errors import DatasetInvalid
from embedscale.evaluator.documents.text import Block, Parsed, joined

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_MOVED_AWAY = f"{_WORD}moveFrom"
_SPACES = {f"{_WORD}tab": "\t", f"{_WORD}br": "\n", f"{_WORD}cr": "\n", f"{_WORD}noBreakHyphen": "-"}
_HEADING = re.compile(r"heading ([1-9])|(title)", re.IGNORECASE)
_MOST_PARTS = 10_000


def read_docx(name: str, data: bytes, max_bytes: int) -> Parsed:
    """Read the body, tables included, without headers, footers, notes and deleted text. Raises DatasetInvalid.

    What the file unpacks to has at most `max_bytes`.
    """
    import docx

    try:
        _check_size(name, data, max_bytes)
        document = docx.Document(io.BytesIO(data))
        levels = {style.style_id: _level(style.name or "") for style in document.styles}
        return joined(_blocks(document.element.body, levels))
    except DatasetInvalid:
        raise
    except Exception as error:  # a broken file makes python-docx and lxml raise almost anything
        reason = type(error).__name__
        raise DatasetInvalid(f"{name}: not a DOCX that can be read: {reason}", field="documents") from None


def _check_size(name: str, data: bytes, max_bytes: int) -> None:
    """Refuse a bomb by the sizes that the archive states: no more than these is ever unpacked."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = archive.infolist()
    if len(parts) > _MOST_PARTS or sum(part.file_size for part in parts) > max_bytes:
        raise DatasetInvalid(f"{name}: it unpacks to more than {max_bytes} bytes", field="documents")


def _level(style: str) -> int:
    found = _HEADING.fullmatch(style)
    return int(found[1] or 1) if found else 0


def _blocks(body: Any, levels: dict[str, int]) -> Iterator[Block]:
    from lxml import etree

    # The first repeats what stands beside it, for old programs; the second is text that was moved elsewhere.
    etree.strip_elements(body, _FALLBACK, _MOVED_AWAY)
    parts: list[str] = []
    level = 0
    for element in body.iter():
        if element.tag == f"{_WORD}p":
            yield Block("".join(parts), level)
            parts, level = [], levels.get(element.style or "", 0)
        elif element.tag == f"{_WORD}t":
            parts.append(element.text or "")
        elif element.tag in _SPACES:
            parts.append(_SPACES[element.tag])
    yield Block("".join(parts), level)
