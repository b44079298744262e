"""`python -m embedscale.cli.die_with_parent PID COMMAND...`: become COMMAND, which the kernel kills when PID dies.

However the parent dies, kill -9 included, nothing of it is left. Only Linux can do so; elsewhere COMMAND simply runs.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel, then replace this process."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit("the parent is gone")
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()
