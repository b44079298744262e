"""Collects what is wrong with a set while it is read."""

from collections import Counter

from embedscale.core.dataset import Fault, FaultKind
from embedscale.core.errors import DatasetInvalid

KEPT = 100
_SHOWN = 3
_CHARACTERS = 300


class FaultLog:
    """Counts all faults by kind and keeps the first ones: memory stays bounded, however bad the set."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: list[Fault] = []

    def add(self, kind: FaultKind, place: str, message: str) -> None:
        """Note a fault."""
        self.counts[kind.value] += 1
        if len(self.first) < KEPT:
            self.first.append(Fault(kind, _short(place), _short(message)))

    def refuse(self, uri: str) -> None:
        """Raise DatasetInvalid that names the first faults and counts the rest, if there are any."""
        if not self.first:
            return
        rest = self.counts.total() - _SHOWN
        more = f" (and {rest} more)" if rest > 0 else ""
        raise DatasetInvalid(f"{uri}: {'; '.join(map(str, self.first[:_SHOWN]))}{more}", field="dataset")


def _short(text: str) -> str:
    """Ids have any length, and messages of failed calls have not."""
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]}..."
