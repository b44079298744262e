"""Which documents are read, under which ids, and which never."""

import functools
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedscale.core.documents import SourceDocument
from embedscale.core.errors import DatasetForbidden, DatasetInvalid, DatasetNotFound
from embedscale.evaluator.documents.digest import CorpusDigest
from tests.document_files import read, reader, refusal

PAGE = "<!doctype html><p>Page.</p>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of documents and of other things."""
    files = {
        "b.md": "# B\n\nText b.",
        "a.txt": "Text a.",
        "deep/er/c.HTML": "<p>Text c.</p>",
        "deep/.hidden/x.txt": "hidden",
        ".hidden.txt": "hidden",
        "picture.png": "no text",
        "LICENSE": "no suffix",
        "deep/empty.txt": "\n",
    }
    for name, text in files.items():
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "docs"


@pytest.fixture
def website(folder: Path) -> Iterator[str]:
    (folder / "page").write_text(PAGE)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def ids(documents: list[SourceDocument]) -> list[str]:
    return [document.id for document in documents]


def test_a_folder_is_read_whole_by_name_without_hidden_files(folder: Path) -> None:
    used = reader(folder)
    documents = list(used.read([str(folder)], threading.Event()))
    assert [(document.id, document.text) for document in documents] == [
        ("a.txt", "Text a."),
        ("b.md", "B\n\nText b."),
        ("deep/er/c.HTML", "Text c."),
    ]
    assert used.skipped == {".png": 1, "no suffix": 1, "no text": 1}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.md", ["b.md"]),
        ("**/*.HTML", ["deep/er/c.HTML"]),
        ("[ab].*", ["a.txt", "b.md"]),
        ("deep/*/?.HTML", ["er/c.HTML"]),
        ("**/*.txt", ["a.txt"]),
    ],
)
def test_globs(folder: Path, pattern: str, expected: list[str]) -> None:
    assert ids(read(folder, folder / pattern)) == expected
    assert ids(read(folder, f"file://{folder}/{pattern}")) == expected


def test_ids_are_relative_to_what_is_asked_for(folder: Path) -> None:
    assert ids(read(folder, folder / "a.txt")) == ["a.txt"]
    assert ids(read(folder, f"file://{folder}/deep/er")) == ["c.HTML"]
    assert ids(read(folder, folder / "deep/er", folder / "a.txt")) == ["a.txt", "deep/er/c.HTML"]


def test_a_file_that_is_asked_for_twice_is_read_once(folder: Path) -> None:
    (folder / "link.txt").symlink_to(folder / "a.txt")
    assert ids(read(folder, folder, folder / "a.txt", folder)) == ["a.txt", "b.md", "deep/er/c.HTML"]


def test_files_of_the_same_name_have_ids_of_their_own(folder: Path) -> None:
    (folder / "deep" / "a.txt").write_text("Another a.")
    assert ids(read(folder, folder / "deep/*.txt", folder / "*.txt")) == ["a.txt", "deep/a.txt"]


def test_an_id_is_text_whatever_the_bytes_of_a_name(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.txt")).write_text("Text.")
    found = ids(read(folder, folder / "*.txt"))
    assert found == ["a.txt", r"caf\udce9.txt"]
    assert "".join(found).encode()


@pytest.mark.parametrize("pattern", ["**.md", "deep/a**/*.md"])
def test_a_glob_that_no_python_reads_alike_is_refused(folder: Path, pattern: str) -> None:
    with pytest.raises(DatasetInvalid, match="must stand alone") as caught:
        read(folder, folder / pattern)
    assert caught.value.field == "documents"


@pytest.mark.parametrize("name", ["picture.png", "LICENSE", "deep/empty.txt"])
def test_a_file_that_is_named_itself_is_never_skipped(folder: Path, name: str) -> None:
    with pytest.raises(DatasetInvalid, match=r"unknown kind of document; there are \.txt|no text") as caught:
        read(folder, folder / name)
    assert caught.value.field == "documents"


@pytest.mark.parametrize("uri", ["{0}/missing.txt", "{0}/*.missing", "{0}/none/*.txt", "s3://bucket/x", "x:y"])
def test_what_is_not_there_is_not_found(folder: Path, uri: str) -> None:
    with pytest.raises(DatasetNotFound) as caught:
        read(folder, uri.format(folder))
    assert caught.value.field == "documents"


@pytest.mark.parametrize("uri", ["{0}/secret.txt", "{0}/*.txt", "{0}", "{0}/docs/../secret.txt", "{0}/docs/*/../../*"])
def test_nothing_is_read_outside_the_roots(folder: Path, uri: str) -> None:
    (folder.parent / "secret.txt").write_text("secret")
    with pytest.raises(DatasetForbidden) as caught:
        read(folder, uri.format(folder.parent))
    assert caught.value.field == "documents"


def test_links_out_of_the_roots_are_not_followed(folder: Path) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(outside / "secret.txt")
    (folder / "link").symlink_to(outside)
    for uri in (folder, folder / "*.txt", folder / "*/*.txt", folder / "**/*"):
        assert not [document for document in read(folder, uri, folder / "a.txt") if "secret" in document.text]
    for uri in (folder / "link.txt", folder / "link", folder / "link" / "*.txt"):
        with pytest.raises(DatasetForbidden):
            read(folder, uri)


def test_pipes_are_left_alone(folder: Path) -> None:
    os.mkfifo(folder / "pipe.txt")
    assert ids(read(folder, folder / "*.txt")) == ["a.txt"]


def test_pages_are_known_by_their_content(folder: Path, website: str) -> None:
    documents = read(folder, f"{website}/page", f"{website}/a.txt", folder / "b.md")
    assert [(document.id, document.text) for document in documents] == [
        ("b.md", "B\n\nText b."),
        (f"{website}/a.txt", "Text a."),
        (f"{website}/page", "Page."),
    ]


def test_a_url_must_answer_with_a_document_and_be_allowed(folder: Path, website: str) -> None:
    with pytest.raises(DatasetNotFound, match="HTTP 404") as missing:
        read(folder, f"{website}/missing.txt")
    with pytest.raises(DatasetInvalid, match="unknown kind"):
        read(folder, f"{website}/LICENSE")
    with pytest.raises(DatasetForbidden) as forbidden:
        read(folder, website.replace("127.0.0.1", "localhost"))
    assert missing.value.field == forbidden.value.field == "documents"


def test_a_document_that_is_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a" * 101)
    with pytest.raises(DatasetInvalid, match="larger than the limit of 100 bytes"):
        list(reader(tmp_path, 100).read([str(tmp_path)], threading.Event()))


def test_reading_ends_when_told_to(folder: Path) -> None:
    stop = threading.Event()
    found = reader(folder).read([str(folder)], stop)
    assert next(found).id == "a.txt"
    stop.set()
    assert list(found) == []


def test_a_document_is_read_when_it_is_asked_for(folder: Path) -> None:
    found = reader(folder).read([str(folder)], threading.Event())
    assert next(found).id == "a.txt"
    (folder / "b.md").write_text("changed")
    assert next(found).text == "changed"


def test_a_broken_document_is_named(folder: Path) -> None:
    assert refusal(folder / "deep" / "a.pdf", b"no pdf").startswith("a.pdf: not a PDF")
    with pytest.raises(DatasetInvalid, match=r"deep/a\.pdf: not a PDF"):
        read(folder, folder)


def test_the_digest_is_of_ids_and_texts_whatever_their_order() -> None:
    def digest(*documents: tuple[str, str]) -> str:
        made = CorpusDigest()
        for name, text in documents:
            made.add(SourceDocument(name, text))
        return made.hexdigest()

    assert digest(("a", "x"), ("b", "y")) == digest(("b", "y"), ("a", "x"))
    others = [digest(("a", "x")), digest(("a", "y"), ("b", "x")), digest(("a", "x"), ("c", "y")), digest()]
    assert len({digest(("a", "x"), ("b", "y")), *others}) == 5
