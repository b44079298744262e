"""Where the cluster of this machine keeps its state, and how commands find it."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from platformdirs import user_state_path

from embedscale.cli.errors import CommandFailed
from embedscale.cli.exit_codes import EXIT_USER

_LOCK_TRIES = 5
_LOCK_PAUSE_SECONDS = 0.02


@dataclass(frozen=True)
class ClusterState:
    """A running cluster: the process to stop, and where its services are."""

    pid: int
    embedding_addresses: list[str]
    evaluation_address: str
    redis_url: str
    openai_url: str = ""


class Home:
    """A folder of `cluster.json`, `logs/`, `ports/`, `redis/`, `datasets/`: $EMBEDSCALE_HOME, or one of the user.

    `chat-models.yaml` in it, where somebody has put one, names the chat models of the cluster.
    """

    def __init__(self, folder: Path | None = None) -> None:
        chosen = folder or os.environ.get("EMBEDSCALE_HOME") or user_state_path("embedscale")
        self.folder = Path(chosen).absolute()
        self.logs = self.folder / "logs"
        self.redis = self.folder / "redis"
        self.ports = self.folder / "ports"
        self.datasets = self.folder / "datasets"
        self.chat_models = self.folder / "chat-models.yaml"
        self._state = self.folder / "cluster.json"
        self._lock = self.folder / "lock"

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Hold the home for one cluster. Raises CommandFailed if another has it; the lock ends with the process."""
        for folder in (self.logs, self.redis, self.ports):
            folder.mkdir(parents=True, exist_ok=True)
        with self._lock.open("a+") as lock:
            if not _locked(lock.fileno()):
                raise CommandFailed(f"a cluster is up already in {self.folder}; `evalctl down` stops it", EXIT_USER)
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            self._state.unlink(missing_ok=True)  # of a cluster that was killed
            try:
                yield
            finally:
                self._state.unlink(missing_ok=True)

    def publish(self, state: ClusterState) -> None:
        """Let other commands find the cluster; the file appears whole or not at all."""
        draft = self._state.with_suffix(".tmp")
        draft.write_text(json.dumps(asdict(state), indent=2))
        draft.replace(self._state)

    def cluster(self) -> ClusterState | None:
        """Return the running cluster, if there is one; what a dead one left is not taken for it."""
        try:
            state = ClusterState(**json.loads(self._state.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return state if self.owner() == state.pid else None

    def owner(self) -> int | None:
        """Process id of the cluster that holds this home, be it ready or still starting."""
        try:
            with self._lock.open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(self._lock.read_text() or 0) or None
        except OSError:
            pass
        return None


def _locked(descriptor: int) -> bool:
    """Take the lock; those who only look hold it for a moment, so that one refusal does not count."""
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(_LOCK_PAUSE_SECONDS)
        else:
            return True
    return False
