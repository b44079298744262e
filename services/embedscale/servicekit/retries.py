"""How long to wait before a call is tried again."""

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Retries:
    """Full jitter: a random part of a time that doubles with each try, so that clients do not come back together."""

    most: int
    """Further tries after the first."""
    first_seconds: float = 0.5
    """The longest pause before the first of them."""
    longest_seconds: float = 20.0
    """The longest pause before any."""

    def pause(self, tries: int, told: float | None) -> float | None:
        """Seconds to wait after so many failed tries, or what the upstream has told; None to give up."""
        if tries > self.most:
            return None
        if told is not None:
            return told
        return random.uniform(0, min(self.longest_seconds, self.first_seconds * 2.0 ** (tries - 1)))  # noqa: S311
