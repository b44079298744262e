"""Logs on standard error, a line a message: as text, or as JSON. Neither has texts of callers, nor secrets."""

import asyncio
import json
import logging
import sys
import time
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from embedscale.servicekit.server_facts import server_version
from embedscale.tracing.spans import current_ids

log = logging.getLogger(__name__)

_TEXT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s"
_TIME = "%Y-%m-%dT%H:%M:%S"
_OF_A_CALL = ("method", "code", "duration")
_CHATTY = ("httpx", "httpx2", "httpcore", "httpcore2", "openai", "transformers")
_TELLING = (OSError, ImportError)
"""Errors of libraries whose messages name files, addresses and modules."""

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class TextFormatter(logging.Formatter):
    """For people. Times are UTC. An error outside our own tree has no message, which may quote what a caller sent."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__(_TEXT, _TIME)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """See `logging.Formatter`; the trace is named at the end."""
        trace_id, _ = current_ids()
        return super().formatMessage(record) + (f" trace_id={trace_id}" if trace_id else "")

    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802
        """See `logging.Formatter`."""
        return "\n".join(_told(ei[1])) if ei[1] else ""


class JsonFormatter(TextFormatter):
    """For machines: an object a line."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = {"service": service, "version": server_version()}

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        trace_id, span_id = current_ids()
        fields: dict[str, Any] = {
            "time": f"{self.formatTime(record, self.datefmt)}.{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **({"trace_id": trace_id, "span_id": span_id} if trace_id else {}),
            **{name: getattr(record, name) for name in _OF_A_CALL if hasattr(record, name)},
            **({"error": self.formatException(record.exc_info)} if record.exc_info else {}),
            **self._service,
        }
        return json.dumps(fields, separators=(",", ":"))


def configure_logging(service: str, level: str, layout: str) -> None:
    """Log to standard error. Libraries log from info on: what they tell beyond it has callers' texts and keys."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service) if layout == "json" else TextFormatter())
    lowest = level.upper()
    logging.basicConfig(level="INFO" if lowest == "DEBUG" else lowest, handlers=[handler], force=True)
    logging.getLogger("embedscale").setLevel(lowest)
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_ours)


def _is_ours(record: logging.LogRecord) -> bool:
    """False for what gRPC calls an error where a caller has gone while the answer was on its way."""
    return "ExecuteBatchError" not in str(record.msg)


def log_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:  # noqa: ARG001
    """Tell what no task waited for; asyncio itself would write out the error with its message."""
    log.error("%s", context["message"], exc_info=context.get("exception"))


def _told(error: BaseException) -> Iterator[str]:
    """Where an error came from and what it is, after what caused it."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause:
        yield from _told(cause)
    for line in traceback.format_tb(error.__traceback__):
        yield line.rstrip("\n")
    ours = type(error).__module__.startswith("embedscale.")
    name = type(error).__qualname__
    yield f"{name}: {error}" if ours or isinstance(error, _TELLING) else name
