"""Readers of documents: normal text and headings that stand in it, or an error that names the file; nothing is slow.

The first byte chooses the kind. What time and memory an input may take is held by the runner.
"""

import io
import threading
import zipfile
from random import Random

from embedscale.core.documents import SourceDocument
from embedscale.core.errors import DatasetInvalid
from embedscale.evaluator.documents.kinds import parsed
from embedscale.evaluator.documents.text import normalised
from tests.document_files import with_part
from tests.fuzz.mutating import damaged

_KINDS = (".md", ".html", ".pdf", ".docx", ".txt")
_MOST_BYTES = 2**22


def check(data: bytes) -> None:
    if not data:
        return
    kind = _KINDS[data[0] % len(_KINDS)]
    name = f"document{kind}"
    try:
        document = parsed(name, kind, data[1:], _MOST_BYTES, threading.Event())
    except DatasetInvalid as error:
        assert error.field == "documents"
        assert error.message.startswith(f"{name}: ")
        return
    _check_text(document)


def mutate(data: bytes, pick: Random) -> bytes | None:
    """Change a part of a Word document: its archive has checksums, which changing bytes would break."""
    try:
        with zipfile.ZipFile(io.BytesIO(data[1:])) as archive:
            part = pick.choice(archive.namelist())
            content = archive.read(part)
        return data[:1] + with_part(data[1:], part, damaged(content, pick))
    except Exception:  # it is no archive, or a broken one, of which zipfile raises almost anything
        return None


def _check_text(document: SourceDocument) -> None:
    assert document.text == normalised(document.text)
    document.text.encode()
    starts = [heading.start for heading in document.headings]
    assert starts == sorted(set(starts))
    for heading in document.headings:
        line = document.text[heading.start :].split("\n")
        assert heading.level in range(1, 10)
        assert heading.title.split() == " ".join(line).split()[: len(heading.title.split())]
