"""A question/answer set: queries, the corpus they search, and which documents answer which query."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Dataset:
    """A set in memory. All ids are strings; `relevant` names at least one known document for every query."""

    uri: str
    queries: Mapping[str, str]
    corpus: Mapping[str, str]
    relevant: Mapping[str, tuple[str, ...]]
    title: str = ""
    languages: tuple[str, ...] = ()
    license: str = ""

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the content as canonical JSON, 64 hexadecimal digits: equal sets have equal digests."""
        content = {"corpus": self.corpus, "queries": self.queries, "relevant": self.relevant}
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()
