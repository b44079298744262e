"""Logs on standard error."""

import logging
import time


def configure_logging(level: str) -> None:
    """Log to standard error, a line a message, in UTC."""
    logging.Formatter.converter = time.gmtime
    layout = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=level.upper(), format=layout, datefmt="%Y-%m-%dT%H:%M:%S", force=True)
    for chatty in ("httpx", "httpx2", "httpcore", "httpcore2", "openai", "transformers"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
