"""podman in a sandbox: its images, containers and settings are apart from those of this machine."""

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

LOCKED_DOWN = (
    "--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--pids-limit=1024",
    "--tmpfs=/tmp:mode=1777", "--volume=/var/lib/embedscale",
)  # fmt: skip
RIGHTS = Path(__file__).with_name("rights.py").read_text("utf-8")
"""A program that tells, inside a container, what it may do."""
_LIMITS = (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC))


class Podman:
    """Runs podman's commands; `root` is where it keeps everything."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.environment = {**os.environ, **_configured(root)}

    def __call__(self, *arguments: str | Path, standard_input: bytes = b"") -> str:
        """Run a command, and return what it prints. Raises AssertionError with what it said if it fails."""
        done = subprocess.run(["podman", *arguments], env=self.environment, input=standard_input, capture_output=True)
        assert done.returncode == 0, f"podman {arguments[0]}: {done.stderr.decode()}"
        return done.stdout.decode().strip()

    def succeeds(self, *arguments: str) -> bool:
        """Whether a command ends well."""
        return subprocess.run(["podman", *arguments], env=self.environment, capture_output=True).returncode == 0

    @contextmanager
    def container(self, image: str, *options: str, command: tuple[str, ...] = ()) -> Iterator[str]:
        """Run a container, locked down, in the background; it is removed in the end. The test fails with its log."""
        name = self("run", "--detach", *LOCKED_DOWN, *options, image, *command)
        try:
            yield name
        except BaseException:
            done = subprocess.run(["podman", "logs", name], env=self.environment, capture_output=True, text=True)
            print(f"{image}: {done.stdout}{done.stderr}")
            raise
        finally:
            self("rm", "--force", "--volumes", "--time=0", name)

    def once(self, image: str, *options: str, command: tuple[str, ...] = ()) -> str:
        """Run a container, locked down, to its end, and return what it prints."""
        return self("run", "--rm", *LOCKED_DOWN, *options, image, *command)

    def address(self, name: str, port: int = 50051) -> str:
        """Where a published port of a container is on this machine."""
        return self("port", name, str(port)).splitlines()[0]


def _configured(root: Path) -> Mapping[str, str]:
    """Write podman's settings: cgroups of its own where there is no systemd, and no limit above this process's."""
    runtime = shutil.which("crun") or shutil.which("runc") or "crun"
    manager = "systemd" if Path("/run/systemd/system").is_dir() else "cgroupfs"
    limits = [(name, min(4096, resource.getrlimit(kind)[1])) for name, kind in _LIMITS]
    storage, containers = root / "storage.conf", root / "containers.conf"
    storage.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{root}/storage"\nrunroot = "{root}/run"\n')
    containers.write_text(
        f"[containers]\ndefault_ulimits = {[f'{name}={most}:{most}' for name, most in limits]}\n"
        f'[engine]\nruntime = "{Path(runtime).name}"\ncgroup_manager = "{manager}"\nevents_logger = "file"\n'
        f'[network]\nnetwork_backend = "netavark"\nnetwork_config_dir = "{root}/networks"\n'
    )
    return {"CONTAINERS_STORAGE_CONF": str(storage), "CONTAINERS_CONF": str(containers)}
