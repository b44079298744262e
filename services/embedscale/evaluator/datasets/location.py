"""Where a data set is, as its URI says."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from embedscale.core.errors import DatasetForbidden, DatasetInvalid, DatasetNotFound

ANY_HOST = "*"
WEB_SCHEMES = ("http", "https")
FILE_SCHEME = "file"
_OPTIONS = ("split", "subset", "sha256")


@dataclass(frozen=True)
class Location:
    """A URI, taken apart: `path` is a path for files and the URI without its options for all else."""

    uri: str
    scheme: str
    path: str
    options: Mapping[str, str]

    @property
    def host(self) -> str:
        """Host or bucket."""
        return urlsplit(self.path).hostname or ""


@dataclass(frozen=True)
class Fetched:
    """A data set on this machine."""

    path: Path
    name: str
    """Name of a single file, which its faults are reported under."""
    root: Path
    """Links inside a folder may lead no further than below this one."""
    state: str
    """Changes whenever the content may have; empty where that cannot be told."""


class Origin(Protocol):
    """A kind of place that data sets come from."""

    def fetch(self, location: Location, known: str, draft: Path) -> Fetched | None:
        """Bring a set here, to `draft` if it is not here yet; None when its state is still the `known` one.

        Raises DatasetNotFound, DatasetForbidden or DatasetInvalid.
        """


def locate(uri: str) -> Location:
    """Read a URI. Raises DatasetNotFound and DatasetInvalid.

    Options stand in the fragment (`#sha256=HEX&split=dev`), and where the query is not the server's, also there.
    """
    try:
        parts = urlsplit(uri)
        scheme = parts.scheme or FILE_SCHEME
        if not parts.scheme and Path(uri).exists():  # its name may hold ? and #
            return Location(uri, scheme, uri, {})
        options = dict(parse_qsl(parts.fragment))
        if scheme not in WEB_SCHEMES:
            options = dict(parse_qsl(parts.query)) | options
            parts = parts._replace(query="")
    except (ValueError, OSError):  # no file name and no URL has such characters, or so many
        raise DatasetNotFound(f"{uri!r} is neither a path nor a URI", field="dataset") from None
    if unknown := set(options) - set(_OPTIONS):
        raise DatasetInvalid(
            f"{uri}: unknown option {min(unknown)!r}; there are {', '.join(_OPTIONS)}", field="dataset"
        )
    path = unquote(parts.path) if parts.scheme == FILE_SCHEME else parts._replace(fragment="").geturl()
    return Location(uri, scheme, path, options)


def check_host(host: str, allowed: Sequence[str]) -> None:
    """Raise DatasetForbidden unless the host or bucket is allowed."""
    if host not in allowed and ANY_HOST not in allowed:
        raise DatasetForbidden(f"{host} is not a host that the evaluator may fetch from", field="dataset")


def verify(location: Location, path: Path) -> None:
    """Raise DatasetInvalid unless the file is the one that the URI states the SHA-256 of. Raises OSError."""
    expected = location.options.get("sha256", "").lower()
    if not expected:
        return
    if not path.is_file():
        raise DatasetInvalid(f"{location.uri}: sha256 is of one file, and this is a folder", field="dataset")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise DatasetInvalid(f"{location.uri}: the file's SHA-256 is {found}", field="dataset")
