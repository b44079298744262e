"""What a process knows of its own leases."""

import pytest

from embedscale.embedding.leases import HeldLeases, lease_key


def test_leases_of_vectors_that_are_never_written_are_forgotten_when_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("embedscale.embedding.leases.time.monotonic", lambda: now[0])
    held = HeldLeases()
    for number in range(1000):
        now[0] += 1
        held.hold([b"es1:%d" % number, b"es1:again"], 2.0)
    assert len(held._until) <= 4
    assert held.releasable([b"es1:again", b"es1:999", b"es1:1"]) == [lease_key(b"es1:again"), lease_key(b"es1:999")]
