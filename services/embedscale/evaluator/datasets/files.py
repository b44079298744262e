"""The files of a data set: one file, a folder or a zip archive, each file unpacked while it is read."""

import gzip
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from embedscale.core.errors import DatasetInvalid

_PACKED_SUFFIXES = (".gz", ".zst")
_GZIP, _ZSTD, _ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"
_MAGIC = 4
_BAD_ARCHIVE = (
    *(zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError),
    *(zlib.error, lzma.LZMAError, struct.error, UnicodeDecodeError),
)
"""What reading one raises, be it its list of files or, anywhere in the set, one of them."""
_BLOCK = 2**18
_MOST_FILES = 10_000


class Budget:
    """How many bytes may be read of a set, unpacked: a small archive may hold a large one."""

    def __init__(self, uri: str, limit: int) -> None:
        self._uri = uri
        self._limit = limit
        self._reached: dict[str, int] = {}

    def reach(self, name: str, position: int) -> None:
        """Note how far a file was read; reading it again costs nothing. Raises DatasetInvalid beyond the limit."""
        self._reached[name] = max(position, self._reached.get(name, 0))
        if sum(self._reached.values()) > self._limit:
            raise DatasetInvalid(f"{self._uri} is larger than the limit of {self._limit} bytes", field="dataset")


@dataclass(frozen=True)
class SourceFile:
    """One file: its name in the set, without the suffix of a compression, and how to read it, unpacked."""

    name: str
    open: Callable[[], BinaryIO]


Files = Mapping[str, SourceFile]


@contextmanager
def opened(path: Path, name: str, root: Path, budget: Budget) -> Iterator[Files]:
    """Files of what lies at `path`; `name` is that of a single file. Links out of `root` are not followed.

    Raises DatasetInvalid or OSError.
    """
    if path.is_dir():
        yield _in_folder(path, root.resolve(), budget)
    elif _starts_with(path, _ZIP):
        with _archive(path, name) as archive:
            yield _in_archive(archive, budget)
    else:
        yield _named([(name, lambda: path.open("rb"))], budget)


def _in_folder(folder: Path, root: Path, budget: Budget) -> Files:
    def opener(path: Path) -> Callable[[], BinaryIO]:
        return lambda: path.open("rb")

    inside = [path for path in files_under(folder) if path.resolve().is_relative_to(root)]
    return _named([(_shown(path.relative_to(folder)), opener(path)) for path in inside], budget)


def _shown(path: Path) -> str:
    """The path for people and for SQLite: file systems have names that are not UTF-8."""
    return path.as_posix().encode("utf-8", "replace").decode()


def files_under(folder: Path) -> list[Path]:
    """All files in a folder and the folders in it, but for hidden ones, by name. Raises DatasetInvalid and OSError."""
    found = []
    for path in folder.iterdir():
        inside = path.iterdir() if path.is_dir() and not _is_hidden(path) else [path]
        found += [file for file in inside if file.is_file() and not _is_hidden(file)]
        if len(found) > _MOST_FILES:
            raise DatasetInvalid(f"{folder} has more than {_MOST_FILES} files", field="dataset")
    return sorted(found)


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".")


@contextmanager
def _archive(path: Path, name: str) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _BAD_ARCHIVE as error:
        raise DatasetInvalid(f"{name}: not a zip archive that can be read: {error}", field="dataset") from None


def _in_archive(archive: zipfile.ZipFile, budget: Budget) -> Files:
    def opener(member: str) -> Callable[[], BinaryIO]:
        return lambda: cast(BinaryIO, archive.open(member))

    names = [member.filename for member in archive.infolist() if member.filename and not member.is_dir()]
    return _named([(name, opener(name)) for name in names], budget)


def _named(found: list[tuple[str, Callable[[], BinaryIO]]], budget: Budget) -> Files:
    def unpacked(name: str, opener: Callable[[], BinaryIO]) -> Callable[[], BinaryIO]:
        return lambda: _unpacked(opener(), name, budget)

    files = [SourceFile(_without_packing(name), unpacked(name, opener)) for name, opener in found]
    return {file.name: file for file in files}


def _without_packing(name: str) -> str:
    suffix = Path(name).suffix
    return name.removesuffix(suffix) if suffix in _PACKED_SUFFIXES else name


def _starts_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _unpacked(file: BinaryIO, name: str, budget: Budget) -> BinaryIO:
    """Recognise a compression by its first bytes."""
    start = file.read(_MAGIC)
    file.seek(0)
    content = file
    if start.startswith(_GZIP):
        content = cast(BinaryIO, gzip.GzipFile(fileobj=file))
    elif start.startswith(_ZSTD):
        content = cast(BinaryIO, zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True))
    return io.BufferedReader(_Counted(content, file, name, budget), _BLOCK)


class _Counted(io.RawIOBase):
    """Counts what is read, and says of a broken compression that it is broken."""

    def __init__(self, content: BinaryIO, file: BinaryIO, name: str, budget: Budget) -> None:
        self._source = content
        self._file = file
        self._name = name
        self._budget = budget
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._source.seekable()

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = self._source.seek(offset, whence)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        try:
            block = self._source.read(len(buffer))
        except (EOFError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile, zstandard.ZstdError) as error:
            raise DatasetInvalid(f"{self._name}: the compression is broken: {error}", field="dataset") from None
        self._position += len(block)
        self._budget.reach(self._name, self._position)
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._source.close()
        self._file.close()
        super().close()
