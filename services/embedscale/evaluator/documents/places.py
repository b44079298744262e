"""Where documents are: the files behind paths, folders and globs, and URLs."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedscale.core.errors import DatasetForbidden, DatasetInvalid, DatasetNotFound
from embedscale.evaluator.datasets.location import FILE_SCHEME, Fetched, Location, Origin, locate

MOST_FILES = 100_000
_GLOB = re.compile(r"[*?\[]")
_FILE_URI = re.compile(r"\Afile:(?://)?")

Fetch = Callable[[Location], Fetched]


@dataclass(frozen=True)
class Place:
    """One file or URL. `named` says that the caller named it itself, and no folder or glob that holds it."""

    location: Location
    named: bool
    base: Path | None = None
    """Folder that the id of a file is relative to, unless several were asked for."""
    file: Path | None = None

    def id(self, base: Path | None) -> str:
        """The path below `base`, or the URL; bytes of a file's name that are not UTF-8 are written as escapes."""
        name = self.file.relative_to(base).as_posix() if self.file and base else self.location.path
        return name.encode("utf-8", "backslashreplace").decode()


def places(uris: Sequence[str], origins: Mapping[str, Origin]) -> dict[str, Place]:
    """All that is asked for, by id, in the order of the ids; a file that is reached twice comes once.

    Raises DatasetNotFound, DatasetForbidden or DatasetInvalid.
    """
    found: dict[Path | str, Place] = {}
    for place in (place for uri in uris for place in _places(uri, origins)):
        key = place.file.resolve() if place.file else place.location.path
        if key not in found or place.named:
            found[key] = place
        if len(found) > MOST_FILES:
            raise DatasetInvalid(f"there are more than {MOST_FILES} documents", field="documents")
    bases = [str(place.base) for place in found.values() if place.base]
    base = Path(os.path.commonpath(bases)) if bases else None
    return dict(sorted((place.id(base), place) for place in found.values()))


def origin_of(location: Location, origins: Mapping[str, Origin]) -> Origin:
    """The origin of a URI's scheme. Raises DatasetNotFound."""
    if location.scheme not in origins:
        kinds = ", ".join(f"{scheme}:" for scheme in origins)
        raise DatasetNotFound(f"{location.uri}: unknown kind of URI; there are {kinds}", field="documents")
    return origins[location.scheme]


def _places(uri: str, origins: Mapping[str, Origin]) -> Iterator[Place]:
    folder, pattern = _glob(uri)
    location = Location(uri, FILE_SCHEME, folder, {}) if pattern else locate(uri)
    if location.scheme != FILE_SCHEME:
        origin_of(location, origins)
        yield Place(location, named=True)
        return
    # A local origin copies nothing, so it needs no draft.
    fetched = origin_of(location, origins).fetch(location, "", Path(os.devnull))
    if fetched is None or not fetched.path.exists():
        raise DatasetNotFound(f"{location.path} does not exist", field="documents")
    if fetched.path.is_file() and not pattern:
        yield Place(location, named=True, base=fetched.path.parent, file=fetched.path)
        return
    yield from _inside(location, fetched, pattern)


def _inside(location: Location, fetched: Fetched, pattern: str) -> Iterator[Place]:
    files = fetched.path.glob(pattern) if pattern else _walk(fetched.path)
    found = False
    for file in files:
        hidden = any(part.startswith(".") for part in file.relative_to(fetched.path).parts)
        if not hidden and file.is_file() and file.resolve().is_relative_to(fetched.root):
            found = True
            yield Place(location, named=False, base=fetched.path, file=file)
    if not found:
        raise DatasetNotFound(f"{location.uri}: no file is there", field="documents")


def _walk(folder: Path) -> Iterator[Path]:
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(path, name) for name in sorted(names))


def _glob(uri: str) -> tuple[str, str]:
    """Folder and pattern of a glob; the pattern is empty where the URI is none."""
    path = _FILE_URI.sub("", uri)
    if "://" in path or not _GLOB.search(path) or _exists(path):
        return path, ""
    parts = Path(path).parts
    fixed = next(number for number, part in enumerate(parts) if _GLOB.search(part))
    if ".." in parts[fixed:]:
        raise DatasetForbidden(f"{uri}: a glob must not lead up by '..'", field="documents")
    if any("**" in part and part != "**" for part in parts[fixed:]):
        raise DatasetInvalid(f"{uri}: '**' must stand alone between slashes, as in '**/*.md'", field="documents")
    return str(Path(*parts[:fixed])), str(Path(*parts[fixed:]))


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False
