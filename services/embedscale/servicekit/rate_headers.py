"""What an upstream's answer says about when to come back."""

import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

LONGEST_SECONDS = 3600.0
_EPOCH_FROM = 1e9
_DURATION = re.compile(r"(?:(?P<h>[\d.]+)h)?(?:(?P<m>[\d.]+)m(?!s))?(?:(?P<s>[\d.]+)s)?(?:(?P<ms>[\d.]+)ms)?")
_UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds by `retry-after-ms` or `Retry-After`, a number or an HTTP date; None without a valid one."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    said = headers.get("retry-after", "")
    seconds = _number(said)
    return _bounded(seconds if seconds is not None else _until_date(said))


def exhausted(headers: Mapping[str, str]) -> float | None:
    """Seconds until requests or tokens that are used up (`x-ratelimit-remaining-* 0`) come back; None if none is."""
    waits = [
        _reset(headers.get(f"x-ratelimit-reset-{kind}", ""))
        for kind in ("requests", "tokens")
        if _number(headers.get(f"x-ratelimit-remaining-{kind}", "")) == 0
    ]
    return _bounded(max((wait for wait in waits if wait is not None), default=None))


def _reset(said: str) -> float | None:
    """Read `20ms`, `1s`, `6m0s`, seconds as a number, or seconds since 1970."""
    number = _number(said)
    if number is not None:
        return number - time.time() if number > _EPOCH_FROM else number
    parts = _DURATION.fullmatch(said)
    if not said or not parts:
        return None
    numbers = {unit: _number(value) for unit, value in parts.groupdict().items() if value}
    return sum(_UNIT_SECONDS[unit] * (value or 0.0) for unit, value in numbers.items())


def _until_date(said: str) -> float | None:
    try:
        return parsedate_to_datetime(said).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None


def _number(said: str) -> float | None:
    try:
        number = float(said)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _bounded(seconds: float | None) -> float | None:
    return None if seconds is None else min(max(seconds, 0.0), LONGEST_SECONDS)
