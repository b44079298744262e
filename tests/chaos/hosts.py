"""Hosts on this machine: network namespaces on one bridge, or, without the rights for those, addresses of loopback."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_BRIDGE_ADDRESS = "02:65:73:00:00:01"
"""Fixed, since a bridge otherwise takes over an address of its ports, which come and go."""
_NAMESPACES = Path("/run/netns")


@dataclass(frozen=True)
class Host:
    """Where a service is alone: `address` is its IPv4; without `namespace` it shares the network of this machine."""

    name: str
    address: str
    namespace: str = ""
    link: str = ""
    """This machine's end of the host's cable."""
    bridge: str = ""

    def make(self) -> None:
        """Put the host on the bridge, with a hardware address that it keeps when it is made anew."""
        ip("netns", "add", self.namespace)
        hardware = "02:65:73:01:00:{:02x}".format(int(self.address.split(".")[-1]))
        far = ("peer", "name", "eth0", "address", hardware, "netns", self.namespace)
        ip("link", "add", self.link, "type", "veth", *far)
        ip("link", "set", self.link, "master", self.bridge, "up")
        ip("-n", self.namespace, "address", "add", f"{self.address}/24", "dev", "eth0")
        for interface in ("eth0", "lo"):
            ip("-n", self.namespace, "link", "set", interface, "up")

    def lose(self) -> None:
        """Take it away with all its connections, whose other ends hear nothing; nothing may run on it any more."""
        ip("link", "del", self.link)
        ip("netns", "del", self.namespace)

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command as it is run on this host."""
        return ["/usr/bin/env", "ip", "netns", "exec", self.namespace, *command] if self.namespace else [*command]

    def cut(self) -> None:
        """Pull the cable: nobody is told, packets are just not heard of again."""
        ip("link", "set", self.link, "down")

    def mend(self) -> None:
        """Plug it in again."""
        ip("link", "set", self.link, "up")

    @contextlib.contextmanager
    def slowed(self, seconds: float) -> Iterator[None]:
        """Delay every packet to and from the host."""
        near, far = f"{self.link}a", f"{self.link}b"
        ip("link", "add", near, "type", "veth", "peer", "name", far)
        try:
            for end in (self.link, far):
                ip("link", "set", end, "arp", "off")  # else this machine answers there for addresses of its own
            ip("link", "set", self.link, "nomaster")
            ip("link", "set", near, "master", self.bridge)
            for end in (near, far):
                ip("link", "set", end, "up")
            with _running([sys.executable, "-m", "tests.chaos.wire", self.link, far, str(seconds)]):
                yield
        finally:
            ip("link", "del", near)
            ip("link", "set", self.link, "arp", "on", "master", self.bridge)


@dataclass(frozen=True)
class Network:
    """Hosts by name, and why they cannot be cut off or slowed down, if they cannot."""

    hosts: dict[str, Host]
    shared_because: str = ""


@contextlib.contextmanager
def network(names: Sequence[str]) -> Iterator[Network]:
    """Make the hosts; they are removed in the end, as are those of a run that was killed."""
    reason = _why_not()
    if reason:
        yield Network({name: Host(name, f"127.0.0.{number}") for number, name in enumerate(names, 2)}, reason)
        return
    _remove_leftovers()
    try:
        yield Network(_made(names))
    finally:
        _remove(os.getpid())


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _why_not() -> str:
    if os.geteuid() != 0:
        return "no network of one's own without root"
    if not shutil.which("ip"):
        return "no program ip (iproute2)"
    probe = f"es{os.getpid()}x"
    try:
        ip("netns", "add", probe)
        ip("link", "add", probe, "type", "bridge")
    except subprocess.CalledProcessError as error:
        return f"no network namespaces here: {error.stderr.decode().strip()}"
    finally:
        for kind in ("netns", "link"):
            subprocess.run(["ip", kind, "del", probe], capture_output=True)
    return ""


def _made(names: Sequence[str]) -> dict[str, Host]:
    pid = os.getpid()
    bridge, subnet = f"es{pid}", f"10.213.{pid % 256}"
    ip("link", "add", bridge, "address", _BRIDGE_ADDRESS, "type", "bridge")
    ip("address", "add", f"{subnet}.1/24", "dev", bridge)
    ip("link", "set", bridge, "up")
    hosts = {
        name: Host(name, f"{subnet}.{number}", f"es{pid}-{name}", f"es{pid}v{number}", bridge)
        for number, name in enumerate(names, 2)
    }
    for host in hosts.values():
        host.make()
    return hosts


def _remove_leftovers() -> None:
    """Of runs that were killed by a signal that cannot be caught."""
    for namespace in _NAMESPACES.glob("es*-*"):
        found = re.fullmatch(r"es(\d+)-.*", namespace.name)
        if found and not Path(f"/proc/{found[1]}").exists():
            _remove(int(found[1]))


def _remove(pid: int) -> None:
    for namespace in _NAMESPACES.glob(f"es{pid}-*"):
        listed = subprocess.run(["ip", "netns", "pids", namespace.name], capture_output=True, text=True).stdout
        for process in listed.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", namespace.name], capture_output=True)
    subprocess.run(["ip", "link", "del", f"es{pid}"], capture_output=True)


@contextlib.contextmanager
def _running(command: Sequence[str]) -> Iterator[None]:
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        yield
        assert process.poll() is None, "the wire broke"
    finally:
        process.kill()
        process.wait()
