"""`python -m tests.llama_cpp_server MODEL.gguf PORT`: llama.cpp's own OpenAI-compatible server, for embeddings."""

import signal
import sys

import xllamacpp

TOKENS = 256
"""Tokens that a text may have; llama.cpp refuses longer ones."""
_AT_ONCE = 4
_MORE_THAN_ANY_TEXT = 8192


def serve(file: str, port: int) -> None:
    """Serve until SIGTERM."""
    settings = xllamacpp.CommonParams()
    settings.model.path = file
    settings.embedding = True
    settings.hostnames = ["127.0.0.1"]
    settings.port = port
    settings.ui = False
    settings.n_parallel = _AT_ONCE
    settings.n_ctx = _AT_ONCE * TOKENS
    # A text that exceeds the batch is an error of the server (500), one that exceeds the context the caller's (400).
    settings.n_batch = settings.n_ubatch = _MORE_THAN_ANY_TEXT
    settings.cpuparams.n_threads = 1
    server = xllamacpp.Server(settings)
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    del server


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
