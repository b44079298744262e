"""What servers log of gRPC's own."""

import logging

import pytest

from embedscale.servicekit.logs import configure_logging


def test_a_caller_who_has_gone_is_no_error_and_all_else_is(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    configure_logging("embedder", "info", "text")
    grpc = logging.getLogger("grpc._cython.cygrpc")
    try:
        grpc.error("ExecuteBatchError raised in core by servicer method [%s]", "/a/B")
        grpc.error("Unexpected [%s] raised by servicer method [%s]", "KeyError", "/a/B")
    finally:
        root.setLevel(before[0])
        root.handlers[:] = before[1]
    said = capsys.readouterr().err
    assert "ExecuteBatchError" not in said
    assert "Unexpected [KeyError]" in said
