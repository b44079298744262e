"""Files that may be replaced while a server runs: certificates, keys, tokens."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

ValueT = TypeVar("ValueT")
Stamp = tuple[tuple[int, int, int], ...]

# The clock of a file system ticks slower than files can be written: for so long the content is compared too.
_SETTLED_NANOSECONDS = 2 * 10**9


class UnusableFiles(Exception):
    """Files that a server needs to start cannot be read, or hold something else."""


class WatchedFiles(Generic[ValueT]):
    """What is read from files; it is read again once they change, and kept as it was while they cannot be read.

    `parse` gets the files' contents in their order, and raises ValueError for what it does not take. Asking for the
    value costs a look at each file's times, so a link that is swapped, as Kubernetes does, is seen at once.
    Any thread may ask. Raises UnusableFiles when it is made.
    """

    def __init__(self, files: Sequence[Path], parse: Callable[[Sequence[bytes]], ValueT]) -> None:
        self._files = files
        self._parse = parse
        self._lock = threading.Lock()
        self._complaint = ""
        self._refused: Sequence[bytes] | None = None
        self._refusal = ""
        try:
            self._stamp = self._look()
            self._contents = self._read()
            self._value = parse(self._contents)
        except (OSError, ValueError) as error:
            raise UnusableFiles(f"{self._names()}: {_reason(error)}") from None

    @property
    def value(self) -> ValueT:
        """What the files hold now, or held when they could last be read."""
        with self._lock:
            try:
                self._renew()
            except (OSError, ValueError) as error:
                self._complain(error)
            return self._value

    def _renew(self) -> None:
        stamp = self._look()
        if stamp == self._stamp and not self._complaint and _settled(stamp):
            return
        contents = self._read()
        if contents != self._contents:
            self._value = self._parsed(contents)
            self._contents = contents
            log.info("%s: read again", self._names())
        self._stamp, self._complaint = stamp, ""

    def _parsed(self, contents: Sequence[bytes]) -> ValueT:
        """Parse, but not again what was refused: that takes milliseconds, and every call would wait for it."""
        if contents == self._refused:
            raise ValueError(self._refusal)
        try:
            return self._parse(contents)
        except ValueError as error:
            self._refused, self._refusal = contents, str(error)
            raise

    def _complain(self, error: Exception) -> None:
        """Say once what is wrong, not at each call."""
        complaint = _reason(error)
        if complaint != self._complaint:
            log.error("%s: what was read before is used on: %s", self._names(), complaint)
        self._complaint = complaint

    def _look(self) -> Stamp:
        stats = [file.stat() for file in self._files]
        return tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats)

    def _read(self) -> Sequence[bytes]:
        return [file.read_bytes() for file in self._files]

    def _names(self) -> str:
        return ", ".join(str(file) for file in self._files)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _settled(stamp: Stamp) -> bool:
    return time.time_ns() - max(written for written, _, _ in stamp) > _SETTLED_NANOSECONDS
