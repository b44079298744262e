"""The text of PDF files."""

import io
import logging
import threading

from embedscale.core.errors import DatasetInvalid
from embedscale.evaluator.documents.text import Parsed, normalised

logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it warns of every oddity of a file


def read_pdf(name: str, data: bytes, max_bytes: int, stop: threading.Event) -> Parsed:
    """Read a file that needs no password, page by page; a scan has no text. Raises DatasetInvalid.

    Pages are joined by a line's end alone: a sentence may go on over the page.
    """
    from pypdf import PdfReader

    pages: list[str] = []
    size = 0
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise DatasetInvalid(f"{name}: encrypted with a password", field="documents")
        for page in reader.pages:
            if stop.is_set():
                break
            pages.append(page.extract_text())
            size += len(pages[-1])
            if size > max_bytes:
                raise DatasetInvalid(f"{name}: its text is larger than {max_bytes} bytes", field="documents")
    except DatasetInvalid:
        raise
    except Exception as error:  # a broken file makes pypdf raise almost anything
        raise DatasetInvalid(f"{name}: not a PDF that can be read: {type(error).__name__}", field="documents") from None
    return Parsed(normalised("\n".join(page.strip() for page in pages)).strip())
