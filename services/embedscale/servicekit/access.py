"""Each call of any protocol: counted while it lasts, and at its end timed and told in the log."""

import logging

from embedscale.servicekit.telemetry import CALL_SECONDS, CALLS, CALLS_IN_PROGRESS

log = logging.getLogger(__name__)


class AccessLog:
    """One line a call: at info if it failed or took longer than `slow_seconds`, at debug else."""

    def __init__(self, slow_seconds: float) -> None:
        self._slow_seconds = slow_seconds

    def began(self, method: str) -> None:
        """Count a call that begins, and that `ended` will be told of."""
        CALLS_IN_PROGRESS.labels(method).inc()

    def ended(self, method: str, code: str, seconds: float, *, failed: bool, lasting: bool = False) -> None:
        """Count a call that has ended; one that is `lasting`, as a stream, is never slow."""
        CALLS_IN_PROGRESS.labels(method).dec()
        CALL_SECONDS.labels(method).observe(seconds)
        CALLS.labels(method, code).inc()
        slow = seconds > self._slow_seconds and not lasting
        level = logging.INFO if failed or slow else logging.DEBUG
        facts = {"method": method, "code": code, "duration": round(seconds, 6)}
        log.log(level, "%s %s in %.3f s", method, code, seconds, extra=facts)
