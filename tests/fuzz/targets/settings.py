"""Settings from flags: settings that read back the same, or a line on standard error for each fault, and exit code 2.

Each line is a flag.
"""

import contextlib
import io
import sys
from unittest import mock

from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.openai_gateway.settings import GatewaySettings
from embedscale.servicekit.settings import EXIT_BAD_SETTINGS, ListenerSettings, load_settings

_KINDS: list[type[ListenerSettings]] = [EvaluatorSettings, GatewaySettings]
_NEEDED = "--embedding-addresses=127.0.0.1:1"


def check(data: bytes) -> None:
    flags = data.decode("utf-8", "surrogateescape").replace("\0", "").splitlines()
    if "--help" in flags or "-h" in flags:
        return
    for kind in _KINDS:
        said = io.StringIO()
        with mock.patch.object(sys, "argv", ["program", _NEEDED, *flags]), contextlib.redirect_stderr(said):
            try:
                settings = load_settings(kind, "program")
            except SystemExit as end:
                assert end.code == EXIT_BAD_SETTINGS
                assert "program: " in said.getvalue()
                assert "Traceback" not in said.getvalue()
                continue
        assert kind(**settings.model_dump()) == settings
