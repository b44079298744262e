"""Data sets in buckets of S3, Google Cloud Storage and Azure, through fsspec."""

import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from embedscale.core.errors import DatasetInvalid, DatasetNotFound, EmbedscaleError
from embedscale.evaluator.datasets.location import Fetched, Location, check_host, verify

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

SCHEMES = ("s3", "gs", "az")
_BLOCK = 2**20
_CHAIN = "::"


class Buckets:
    """The port `Origin` over the file systems that fsspec knows; credentials and endpoints are its environment's.

    A URI names a bucket and never a machine, so that no caller chooses what is connected to.
    """

    def __init__(self, buckets: Sequence[str], max_bytes: int) -> None:
        self._buckets = buckets
        self._max_bytes = max_bytes

    def fetch(self, location: Location, known: str, draft: Path) -> Fetched | None:
        """See `Origin`; a folder is all that is below it."""
        check_host(location.host, self._buckets)
        if _CHAIN in location.path:  # which would have fsspec open a second URI inside the first
            raise DatasetInvalid(f"{location.uri}: {_CHAIN} is not taken in a bucket's URI", field="dataset")
        try:
            from fsspec.core import url_to_fs

            system, path = url_to_fs(location.path)
            return self._fetched(location, known, draft, system, path)
        except ImportError:
            message = f"{location.uri}: {location.scheme}: needs more packages: pip install 'embedscale[cloud]'"
            raise DatasetNotFound(message, field="dataset") from None
        except EmbedscaleError:
            raise
        except Exception as error:  # each file system has errors of its own
            raise DatasetNotFound(f"{location.uri} cannot be read: {type(error).__name__}", field="dataset") from None

    def _fetched(
        self, location: Location, known: str, draft: Path, system: "AbstractFileSystem", path: str
    ) -> Fetched | None:
        system.invalidate_cache()  # fsspec keeps file systems for the process's life, and these their listings
        names = sorted(system.find(path))
        if not names:
            raise DatasetNotFound(f"{location.uri} does not exist", field="dataset")
        state = " ".join(str(system.ukey(name)) for name in names)
        if state == known:
            return None
        self._check_size(location, sum(system.size(name) for name in names))
        for name in names:
            if ".." in PurePosixPath(name).parts:
                raise DatasetInvalid(f"{location.uri}: an object's name leads out of its folder", field="dataset")
            _copy(system, name, draft / PurePosixPath(name).relative_to(path))
        verify(location, draft)
        return Fetched(draft, PurePosixPath(path).name, draft, state)

    def _check_size(self, location: Location, size: int) -> None:
        if size > self._max_bytes:
            raise DatasetInvalid(f"{location.uri} is larger than the limit of {self._max_bytes} bytes", field="dataset")


def _copy(system: "AbstractFileSystem", name: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with system.open(name, "rb") as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, _BLOCK)
