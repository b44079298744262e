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
