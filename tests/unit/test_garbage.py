import subprocess
import sys
import textwrap

PRELUDE = """
import gc, weakref
from embedscale.servicekit import garbage
from embedscale.servicekit.garbage import collect_all, spare_survivors
"""


def told_by(program: str) -> list[str]:
    """Lines that a process of its own prints: what is spared is so for the rest of a process."""
    command = (sys.executable, "-c", PRELUDE + textwrap.dedent(program))
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_a_collection_no_longer_looks_at_what_survived_a_long_one() -> None:
    looked_at = """
        garbage._LONG_SECONDS = 0.0
        spare_survivors()
        there = [[] for _ in range(100_000)]
        gc.collect()
        print(sum(map(len, map(gc.get_objects, range(3)))) < 10_000, len(there))
    """
    assert told_by(looked_at) == ["True", "100000"]


def test_what_is_there_already_is_spared_at_once() -> None:
    counted = """
        there = [[] for _ in range(100)]
        spare_survivors()
        print(gc.get_freeze_count() > 100)
    """
    assert told_by(counted) == ["True"]


def test_a_short_collection_spares_nothing() -> None:
    counted = """
        garbage._LONG_SECONDS = 60.0
        spare_survivors()
        spared = gc.get_freeze_count()
        there = [[] for _ in range(10)]
        gc.collect()
        print(gc.get_freeze_count() - spared)
    """
    assert told_by(counted) == ["0"]


def test_a_cycle_that_was_spared_is_collected_on_demand() -> None:
    left = """
        class Node: pass
        node = Node()
        node.itself, alive = node, weakref.ref(node)
        spare_survivors()
        del node
        gc.collect()
        print(alive() is None)
        collect_all()
        print(alive() is None)
    """
    assert told_by(left) == ["False", "True"]


def test_what_was_spared_is_freed_with_its_last_reference() -> None:
    left = """
        class Node: pass
        node = Node()
        alive = weakref.ref(node)
        spare_survivors()
        del node
        print(alive() is None)
    """
    assert told_by(left) == ["True"]


def test_a_collection_of_young_objects_spares_nothing_however_long() -> None:
    counted = """
        garbage._LONG_SECONDS = 0.0
        spare_survivors()
        spared = gc.get_freeze_count()
        there = [[] for _ in range(10)]
        gc.collect(1)
        print(gc.get_freeze_count() - spared)
    """
    assert told_by(counted) == ["0"]


def test_every_server_spares_what_it_starts_with() -> None:
    served = """
        import os, signal
        from embedscale.servicekit.process import run_server
        from embedscale.servicekit.settings import ListenerSettings

        class Serving:
            port = 1
            async def listen(self):
                print(gc.get_freeze_count() > 10_000)
            async def become_ready(self):
                os.kill(os.getpid(), signal.SIGTERM)
            async def stop(self):
                print("stopped")

        run_server(Serving, ListenerSettings())
    """
    assert told_by(served) == ["True", "stopped"]


def test_memory_is_given_back_of_cycles_that_were_spared() -> None:
    left = """
        from embedscale.embedder.memory import release
        class Node: pass
        node = Node()
        node.itself, alive = node, weakref.ref(node)
        spare_survivors()
        del node
        release(cycles=False)
        print(alive() is None)
        release(cycles=True)
        print(alive() is None)
    """
    assert told_by(left) == ["False", "True"]
