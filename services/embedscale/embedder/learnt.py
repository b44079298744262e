"""What a scheduler learns of its model while it computes: how many tokens fit, and how fast they are computed."""

import math

_RATE_SECONDS = 1.0, 5.0
_BATCHES_TO_RECOVER = 64


class TokenBudget:
    """Padded tokens of a batch: halved when memory is out, and slowly back."""

    def __init__(self, whole: int) -> None:
        self._whole = whole
        self._good_batches = 0
        self.tokens = whole

    def halve(self, failed: int) -> None:
        """A batch of so many tokens had no memory."""
        self.tokens = max(min(self.tokens, failed // 2), 1)
        self._good_batches = 0

    def recover(self) -> None:
        """A batch had memory enough."""
        self._good_batches += 1
        if self._good_batches % _BATCHES_TO_RECOVER == 0:
            self.tokens = min(self.tokens + max(self._whole // 8, 1), self._whole)


class Speed:
    """Tokens a second: the lower of two moving averages, so that a machine that becomes slow is believed soon.

    What is let in too readily ends too late and was computed in vain; what is refused too readily may come again.
    A batch in some slots tells a share of the speed of all. Batches of less than half the budget are slower a token
    and say nothing of the speed under load: they count only where they show that the model is faster than believed.
    """

    def __init__(self, token_budget: int, slots: int) -> None:
        self._representative = token_budget / 2
        self._slots = slots
        self._averages = [_MovingAverage(seconds) for seconds in _RATE_SECONDS]
        self.tokens_per_second: float | None = None

    def observe(self, tokens: int, slots: int, seconds: float) -> None:
        """A batch of so many tokens took so many slots so long."""
        rate, seconds = self.tokens_per_second, seconds * slots / self._slots
        if tokens < slots * self._representative and (rate is None or tokens <= rate * seconds):
            return
        self.tokens_per_second = min(average.observe(tokens, seconds) for average in self._averages)


class _MovingAverage:
    """Exponential, over so many seconds of computing."""

    def __init__(self, seconds: float) -> None:
        self._over = seconds
        self._tokens = self._seconds = 0.0

    def observe(self, tokens: int, seconds: float) -> float:
        kept = math.exp(-seconds / self._over)
        self._tokens = self._tokens * kept + tokens
        self._seconds = self._seconds * kept + seconds
        return self._tokens / max(self._seconds, 1e-9)
