"""`python -m tests.llama_cpp_server MODEL.gguf PORT [texts]`: llama.cpp's OpenAI-compatible server, for either."""

import signal
import sys

import xllamacpp

TOKENS = 256
"""Tokens that a text to embed may have; llama.cpp refuses longer ones."""
_AT_ONCE = 4
_MORE_THAN_ANY_TEXT = 8192
_CONTEXT_OF_TEXTS = 4096


def serve(file: str, port: int, *, texts: bool) -> None:
    """Serve until SIGTERM."""
    settings = xllamacpp.CommonParams()
    settings.model.path = file
    settings.hostnames = ["127.0.0.1"]
    settings.port = port
    settings.ui = False
    settings.cpuparams.n_threads = 1
    if texts:
        settings.n_parallel = 1
        settings.n_ctx = _CONTEXT_OF_TEXTS
    else:
        settings.embedding = True
        settings.n_parallel = _AT_ONCE
        settings.n_ctx = _AT_ONCE * TOKENS
        # A text that exceeds the batch is an error of the server (500), one beyond the context the caller's (400).
        settings.n_batch = settings.n_ubatch = _MORE_THAN_ANY_TEXT
    server = xllamacpp.Server(settings)
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    del server


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), texts=sys.argv[3:] == ["texts"])
