"""What befalls a service. Each fault returns when it is over, which is where recovery is measured from."""

import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.cluster import Cluster

STOPPED_SECONDS = 10.0
CUT_SECONDS = 6.0
SLOW_SECONDS, DELAY_SECONDS = 10.0, 2.0
FULL_SECONDS = 5.0
BACK_OFF_SECONDS = 1.0
"""How long a container that died stays away before it is started again."""
_CHUNK = b"\0" * 2**16


def killed(cluster: Cluster, target: str) -> None:
    """SIGKILL, and started again as Kubernetes would."""
    service = cluster.services[target]
    service.kill()
    time.sleep(BACK_OFF_SECONDS)
    service.start()


def stopped(cluster: Cluster, target: str) -> None:
    """SIGSTOP, and SIGCONT."""
    service = cluster.services[target]
    service.signal(signal.SIGSTOP)
    try:
        time.sleep(STOPPED_SECONDS)
    finally:
        service.signal(signal.SIGCONT)


def restarted(cluster: Cluster, target: str) -> None:
    """SIGTERM, and started again when it has ended."""
    service = cluster.services[target]
    service.stop()
    service.start()


def cut(cluster: Cluster, target: str) -> None:
    """The host's cable is pulled, and plugged in again."""
    host = cluster.net.hosts[target]
    host.cut()
    try:
        time.sleep(CUT_SECONDS)
    finally:
        host.mend()


def slow(cluster: Cluster, target: str) -> None:
    """Every packet to and from the host is late."""
    with cluster.net.hosts[target].slowed(DELAY_SECONDS):
        time.sleep(SLOW_SECONDS)


def lost(cluster: Cluster, target: str) -> None:
    """The host is gone without a word to those it was connected with; another one takes its address."""
    service, host = cluster.services[target], cluster.net.hosts[target]
    host.cut()
    service.kill()
    host.lose()
    time.sleep(BACK_OFF_SECONDS)
    host.make()
    service.start()


def full(cluster: Cluster, target: str) -> None:
    """No byte is left on the disk of the append-only file, and then there is room again."""
    ballast = cluster.disk / "ballast"
    try:
        _fill(ballast)
        time.sleep(FULL_SECONDS)
    finally:
        ballast.unlink()


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        for size in (len(_CHUNK), 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(_CHUNK[:size])


FAULTS: dict[str, Callable[[Cluster, str], None]] = {
    "sigkill": killed,
    "sigstop": stopped,
    "restart": restarted,
    "cut": cut,
    "slow": slow,
    "host-lost": lost,
    "disk-full": full,
}
NEED_HOSTS = ("cut", "slow", "host-lost", "disk-full")
"""Faults that need networks and disks of one's own."""
