"""`python -m tests.llama_cpp_server MODEL.gguf PORT`: llama.cpp's own OpenAI-compatible server, for embeddings."""

import signal
import sys

import xllamacpp


def serve(file: str, port: int) -> None:
    """Serve until SIGTERM."""
    settings = xllamacpp.CommonParams()
    settings.model.path = file
    settings.embedding = True
    settings.hostnames = ["127.0.0.1"]
    settings.port = port
    settings.ui = False
    settings.n_parallel = 4
    settings.n_ctx = 4 * 256
    settings.n_batch = settings.n_ubatch = 8192
    settings.cpuparams.n_threads = 2
    server = xllamacpp.Server(settings)
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    del server


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
