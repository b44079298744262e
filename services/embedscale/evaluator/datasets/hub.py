"""Data sets on the Hugging Face hub: `hf://datasets/ORG/NAME@REVISION`."""

import re
from collections.abc import Sequence
from pathlib import Path

from embedscale.core.errors import DatasetNotFound
from embedscale.evaluator.datasets.location import Fetched, Location, check_host

SCHEME = "hf"
HOST = "huggingface.co"
_REPOSITORY = re.compile(r"hf://datasets/(?P<name>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[\w./-]+))?")
_WANTED = ["README.md", *(f"*.{kind}{packed}" for kind in ("jsonl", "tsv", "json") for packed in ("", ".gz", ".zst")),
           "*.parquet"]  # fmt: skip


class Hub:
    """The port `Origin` over the hub, through its own client and cache; the state is the commit."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._hosts = hosts

    def fetch(self, location: Location, known: str, draft: Path) -> Fetched | None:  # noqa: ARG002 - it has a cache
        """See `Origin`."""
        check_host(HOST, self._hosts)
        match = _REPOSITORY.fullmatch(location.path)
        if not match:
            raise DatasetNotFound(f"{location.uri}: must be like hf://datasets/ORG/NAME@REVISION", field="dataset")
        snapshot = _snapshot(location, match["name"], match["revision"])
        if snapshot.name == known:
            return None
        return Fetched(snapshot, match["name"], snapshot.parents[1], snapshot.name)


def _snapshot(location: Location, name: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
            OfflineModeIsEnabled,
        )
    except ModuleNotFoundError:
        message = f"{location.uri}: hf: needs huggingface_hub: pip install 'embedscale[hub]'"
        raise DatasetNotFound(message, field="dataset") from None
    try:
        return Path(snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=_WANTED))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        message = f"{location.uri} is not in the cache of this machine, and the hub cannot be reached"
        raise DatasetNotFound(message, field="dataset") from None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise DatasetNotFound(f"{location.uri} cannot be fetched: {type(error).__name__}", field="dataset") from None
