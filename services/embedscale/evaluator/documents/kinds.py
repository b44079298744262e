"""Which reader reads which kind of file."""

import threading
from pathlib import PurePosixPath

from embedscale.core.documents import SourceDocument
from embedscale.core.errors import DatasetInvalid
from embedscale.evaluator.documents.docx import read_docx
from embedscale.evaluator.documents.html import looks_like_html, read_html
from embedscale.evaluator.documents.markdown import read_markdown
from embedscale.evaluator.documents.pdf import read_pdf
from embedscale.evaluator.documents.text import Parsed, decoded, normalised

_BY_SUFFIX = {".text": ".txt", ".markdown": ".md", ".htm": ".html", ".xhtml": ".html"}
SUFFIXES = (".txt", ".md", ".html", ".pdf", ".docx", *_BY_SUFFIX)
_EXTRA = "reading {kind} needs more packages: pip install 'embedscale[documents]'"


def kind_of(name: str) -> str:
    """The kind that a file's name tells, as a suffix, or an empty string."""
    suffix = PurePosixPath(name).suffix.lower()
    return _BY_SUFFIX.get(suffix, suffix if suffix in SUFFIXES else "")


def kind_of_page(name: str, data: bytes) -> str:
    """The kind of what a URL answered with: by its content, else by its name."""
    if looks_like_html(data):
        return ".html"
    if data.startswith(b"%PDF-"):
        return ".pdf"
    return kind_of(name)


def parsed(name: str, kind: str, data: bytes, max_bytes: int, stop: threading.Event) -> SourceDocument:
    """Read a file of a known kind. Raises DatasetInvalid."""
    try:
        content = _parsed(name, kind, data, max_bytes, stop)
    except ModuleNotFoundError:
        raise DatasetInvalid(f"{name}: {_EXTRA.format(kind=kind)}", field="documents") from None
    return SourceDocument(name, content.text, content.headings)


def _parsed(name: str, kind: str, data: bytes, max_bytes: int, stop: threading.Event) -> Parsed:
    match kind:
        case ".md":
            return read_markdown(name, data)
        case ".html":
            return read_html(name, data)
        case ".pdf":
            return read_pdf(name, data, max_bytes, stop)
        case ".docx":
            return read_docx(name, data, max_bytes)
        case _:
            return Parsed(normalised(decoded(name, data)))
