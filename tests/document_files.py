"""Documents that tests write, and how they read them back."""

import io
import threading
import zipfile
from pathlib import Path

import docx
import pytest

from embedscale.core.documents import SourceDocument
from embedscale.core.errors import EmbedscaleError
from embedscale.evaluator.datasets.local_files import LocalFiles
from embedscale.evaluator.datasets.location import Origin
from embedscale.evaluator.datasets.website import Website
from embedscale.evaluator.documents.reading import DocumentReader

MOST_BYTES = 16 * 2**20


def reader(root: Path, max_bytes: int = MOST_BYTES) -> DocumentReader:
    """A reader that may read `root` and this machine's websites."""
    website = Website(["127.0.0.1"], max_bytes)
    origins: dict[str, Origin] = {"file": LocalFiles([root]), "http": website, "https": website}
    return DocumentReader(origins, max_bytes)


def read(root: Path, *uris: Path | str) -> list[SourceDocument]:
    return list(reader(root).read([str(uri) for uri in uris or [root]], threading.Event()))


def only(path: Path, data: bytes | str) -> SourceDocument:
    """Write a file and read it as a document."""
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    (document,) = read(path.parent, path)
    return document


def refusal(path: Path, data: bytes | str) -> str:
    """What is said of a file that is refused."""
    with pytest.raises(EmbedscaleError) as caught:
        only(path, data)
    assert caught.value.field == "documents"
    return caught.value.message


def docx_bytes() -> bytes:
    """A Word document with a title, headings, text, a table and a list."""
    document = docx.Document()
    document.add_heading("Handbook", 0)
    document.add_paragraph("It begins.")
    document.add_heading("Rights", 1)
    document.add_paragraph("All have rights.\tSome more.")
    table = document.add_table(1, 2)
    table.cell(0, 0).text, table.cell(0, 1).text = "left", "right"
    document.add_heading("Duties", 2)
    document.add_paragraph("None.")
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def with_part(data: bytes, name: str, content: bytes) -> bytes:
    """A Word document with one part replaced."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.namelist():
            if part != name:
                new.writestr(part, old.read(part))
        new.writestr(name, content)
    return file.getvalue()


def pdf_bytes(*pages: str) -> bytes:
    """A PDF with a line of text on each page."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", "", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    kids = []
    for text in pages:
        stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET"
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
        page = f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {len(objects)} 0 R"
        objects.append(f"{page} /Resources << /Font << /F1 3 0 R >> >> >>")
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    body, offsets = "%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    head = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    return f"{body}{head}trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF".encode()
