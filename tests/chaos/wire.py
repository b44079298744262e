"""`python -m tests.chaos.wire ONE OTHER SECONDS`: a cable between two network interfaces that takes its time.

Every frame is passed on SECONDS later, each way: what tc's netem does, for kernels that are built without it. It ends
with its standard input, so that it does not outlive the program that started it.
"""

import contextlib
import select
import socket
import sys
import time
from collections import deque

_ETH_P_ALL = 3
_SOL_PACKET, _PACKET_VNET_HDR, _PACKET_IGNORE_OUTGOING = 263, 15, 23
_MOST_BYTES = 2**17
_BUFFER_BYTES = 2**24


def _opened(interface: str) -> socket.socket:
    """A socket for whole frames, each with the header that tells of checksums and segments left to the device."""
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    opened.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    opened.bind((interface, 0))
    return opened


def run(one: str, other: str, seconds: float) -> None:
    ends = [_opened(one), _opened(other)]
    towards = {ends[0]: ends[1], ends[1]: ends[0]}
    travelling: deque[tuple[float, socket.socket, bytes]] = deque()
    while True:
        wait = max(travelling[0][0] - time.monotonic(), 0.0) if travelling else None
        ready, _, _ = select.select([*ends, sys.stdin], [], [], wait)
        if sys.stdin in ready:
            return
        for end in ready:
            travelling.append((time.monotonic() + seconds, towards[end], end.recv(_MOST_BYTES)))
        while travelling and travelling[0][0] <= time.monotonic():
            _, end, frame = travelling.popleft()
            with contextlib.suppress(OSError):  # a cable may lose frames
                end.send(frame)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], float(sys.argv[3]))
