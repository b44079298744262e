"""`python -m tests.soak.upstream --port-file FILE`: the upstream of the proxy, slow and now and then at fault."""

import argparse
import itertools
import threading
import time
from collections import deque
from pathlib import Path

from tests.fakes import faulty_upstream

SECONDS = 0.02
"""What every answer takes at least."""
_FAULT_EVERY_SECONDS = 2.0
_FAULTS = ("http500", "reset", "half", "http503")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port-file", type=Path, required=True)
    arguments = parser.parse_args()
    with faulty_upstream.running() as server:
        server.seconds = SECONDS
        server.asked = deque(maxlen=10)  # type: ignore[assignment]
        draft = arguments.port_file.with_suffix(".new")
        draft.write_text(str(server.server_port))
        draft.replace(arguments.port_file)
        threading.Thread(target=_fail, args=(server,), daemon=True).start()
        threading.Event().wait()


def _fail(server: faulty_upstream.FaultyUpstream) -> None:
    """Let one call after the other fail; the proxy's callers must not notice."""
    for fault in itertools.cycle(_FAULTS):
        time.sleep(_FAULT_EVERY_SECONDS)
        server.faults[:] = [fault]


if __name__ == "__main__":
    main()
