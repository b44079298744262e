"""What one data set may cost."""

from embedscale.core.errors import GenerationLimitReached


class Spending:
    """US dollars of one data set; what cannot be told yet, because calls are in flight, counts as spent."""

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._spent = 0.0
        self._is_used_up = False

    def add(self, dollars: float) -> None:
        """Count what was spent before."""
        self._spent += dollars

    def reserve(self, dollars: float) -> None:
        """See `Budget`; once a call was refused, all others are."""
        if self._limit is not None and (self._is_used_up or self._spent + dollars > self._limit):
            self._is_used_up = True
            raise GenerationLimitReached(
                f"the data set would cost more than its spending limit, {self._limit:g} US dollars, of which "
                f"{self._spent:.4f} are spent: every answer so far is kept, and the same request with a higher limit "
                "asks only for the others",
                field="spending_limit",
            )
        self._spent += dollars

    def settle(self, reserved: float, spent: float) -> None:
        """See `Budget`."""
        self._spent += spent - reserved
