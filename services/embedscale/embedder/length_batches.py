"""Groups texts so that little is padded."""

from collections.abc import Iterator, Sequence


def length_batches(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Group row numbers by length so that no batch, padded, has more tokens than the budget (one row always fits)."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > token_budget:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
