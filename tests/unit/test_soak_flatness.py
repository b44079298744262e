"""The rule of the soak: what leaks is found, and what is merely uneven is not."""

import numpy as np
import pytest

from tests.soak.flatness import Rule, Verdict, judged

REQUESTS, SAMPLES = 200_000, 500
DONE = np.linspace(0, REQUESTS, SAMPLES)
MEMORY, COUNT = Rule(0.05, relative=True), Rule(2, relative=False)
NOISE = np.random.default_rng(3).normal(size=SAMPLES)


def verdict(values: np.ndarray, rule: Rule, done: np.ndarray = DONE) -> Verdict:
    return judged(list(done), list(values), rule).verdict


@pytest.mark.parametrize(
    "values",
    [
        np.full(SAMPLES, 500.0),
        np.zeros(SAMPLES),
        500 + 10 * NOISE,
        np.where(DONE < 0.15 * REQUESTS, 300.0, 500.0),  # fills up in the warm-up
        np.where(np.abs(DONE - 150_000) < 5_000, 900.0, 500.0),  # one peak
        500 - DONE / 1_000,  # is given back
        500 + 0.03 * 500 * DONE / REQUESTS + 5 * NOISE,  # less than what is allowed
    ],
)
def test_uneven_memory_is_flat(values: np.ndarray) -> None:
    assert verdict(values, MEMORY) is Verdict.FLAT


@pytest.mark.parametrize(
    "values",
    [
        500 + 0.08 * 500 * DONE / REQUESTS + 5 * NOISE,  # 200 bytes a request
        500 + 200 * np.maximum(DONE / REQUESTS - 0.5, 0),  # begins in the middle
        500 + 60 * np.floor(4 * DONE / REQUESTS),  # in steps
    ],
)
def test_a_leak_of_memory_is_found(values: np.ndarray) -> None:
    assert verdict(values, MEMORY) is Verdict.GROWS


@pytest.mark.parametrize(
    ("values", "right"),
    [
        (30 + np.round(2 * NOISE), Verdict.FLAT),  # connections come and go
        (np.where(DONE < 60_000, 11, 12), Verdict.FLAT),  # a pool's last thread
        (30 + np.floor(DONE / 20_000), Verdict.GROWS),  # one lost in 20,000 requests
        (30 + np.floor(DONE / 20_000) + np.round(2 * NOISE), Verdict.GROWS),
    ],
)
def test_lost_handles_are_found_among_those_that_come_and_go(values: np.ndarray, right: Verdict) -> None:
    assert verdict(values, COUNT) is right


def test_what_is_said_of_a_leak() -> None:
    found = judged(list(DONE), list(100 + DONE / 2_000), MEMORY)
    assert found.level == pytest.approx(160, rel=0.01)
    assert found.growth == pytest.approx(80, rel=0.01)
    assert found.share == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("samples", [0, 1, SAMPLES])
def test_a_short_run_is_not_judged(samples: int) -> None:
    done = np.linspace(0, 1_500, SAMPLES)[:samples]
    assert verdict(done, MEMORY, done) is Verdict.TOO_SHORT
