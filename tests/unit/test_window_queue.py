"""Which windows come next: each once, within the budget, owners in turn, small requests first, large ones in time."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from embedscale.embedder.window_queue import Window, WindowQueue

jobs = st.lists(st.lists(st.integers(1, 300), min_size=1, max_size=20), min_size=1, max_size=12)
budgets = st.integers(1, 1500)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def windows(owner: str, lengths: Sequence[int], *, interactive: bool) -> list[Window[str]]:
    return [Window([1] * length, owner, row, interactive) for row, length in enumerate(lengths)]


def taken(queue: WindowQueue[str], budget: int) -> list[list[Window[str]]]:
    batches = []
    while batch := queue.take(budget):
        batches.append(batch)
    return batches


@given(jobs, budgets)
@settings(deadline=None)
def test_every_window_is_taken_once_within_the_budget_and_with_little_padding(
    given_jobs: list[list[int]], budget: int
) -> None:
    queue: WindowQueue[str] = WindowQueue(0.5, Clock())
    pushed = [windows(str(job), lengths, interactive=len(lengths) <= 8) for job, lengths in enumerate(given_jobs)]
    for group in pushed:
        queue.push(group)
    assert queue.tokens == sum(map(sum, given_jobs))
    batches = taken(queue, budget)
    flat = [window for batch in batches for window in batch]
    assert len(flat) == len(set(flat)) == sum(map(len, pushed))
    assert queue.tokens == 0
    assert not queue
    for batch in batches:
        longest = max(map(len, batch))
        assert len(batch) == 1 or longest * len(batch) <= budget
        assert longest <= 2 * min(map(len, batch))
        assert len({window.interactive for window in batch}) == 1


@given(jobs, st.sets(st.integers(0, 11)), budgets)
@settings(deadline=None)
def test_what_is_dropped_is_not_taken_and_what_is_put_back_comes_first(
    given_jobs: list[list[int]], dropped: set[int], budget: int
) -> None:
    queue: WindowQueue[str] = WindowQueue(0.5, Clock())
    pushed = [windows(str(job), lengths, interactive=False) for job, lengths in enumerate(given_jobs)]
    for group in pushed:
        queue.push(group)
    first = queue.take(budget)
    queue.put_back(first)
    assert queue.take(budget)[0] is first[0]
    queue.put_back(first)
    for job in dropped & set(range(len(pushed))):
        queue.drop(pushed[job])
        queue.drop(pushed[job])
    left = {window for batch in taken(queue, budget) for window in batch}
    assert left == {window for job, group in enumerate(pushed) if job not in dropped for window in group}
    assert queue.tokens == 0


def test_a_later_caller_of_the_same_length_takes_no_place_from_an_earlier_one() -> None:
    queue: WindowQueue[str] = WindowQueue(0.5, Clock())
    for owner in "abcdefgh":
        queue.push(windows(owner, [10, 30] * 10, interactive=False))
    owners = [window.owner for batch in taken(queue, 100) for window in batch]
    lasts = [len(owners) - owners[::-1].index(owner) for owner in "abcdefgh"]
    assert lasts == sorted(lasts)
    assert lasts[0] <= 20 + 10


def test_interactive_work_overtakes_bulk() -> None:
    queue: WindowQueue[str] = WindowQueue(0.5, Clock())
    queue.push(windows("corpus", [10] * 50, interactive=False))
    queue.push(windows("query", [10], interactive=True))
    assert [batch[0].owner for batch in taken(queue, 100)] == ["query", *["corpus"] * 5]


def test_aged_bulk_takes_turns_with_interactive_work() -> None:
    clock = Clock()
    queue: WindowQueue[str] = WindowQueue(0.5, clock)
    queue.push(windows("corpus", [10] * 20, interactive=False))
    clock.now = 0.49
    queue.push(windows("query", [10] * 4, interactive=True))
    assert queue.take(10)[0].owner == "query"
    clock.now = 0.5
    owners = [batch[0].owner for batch in taken(queue, 10)]
    assert owners[:6] == ["corpus", "query", "corpus", "query", "corpus", "query"]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40), st.floats(0, 1)), min_size=1, max_size=60))
@settings(deadline=None)
def test_neither_lane_starves_and_a_query_waits_for_two_batches_at_most(
    steps: list[tuple[bool, int, float]],
) -> None:
    clock = Clock()
    queue: WindowQueue[str] = WindowQueue(0.5, clock)
    queue.push(windows("corpus", [10] * 3000, interactive=False))
    last = ""
    for is_query, count, pause in steps:
        clock.now += pause
        if is_query:
            queue.push(windows("query", [10] * min(count, 8), interactive=True))
            batches = [queue.take(80)[0].owner for _ in range(2)]
            assert "query" in batches
            queries_first = batches[0] == "query"
            assert queries_first or last != "corpus"
            last = batches[1]
        else:
            last = queue.take(80)[0].owner
