"""Groups texts so that little is padded, and so that threads end together."""

from collections.abc import Iterator, Sequence

_SLACKS = (1.0, 1.05, 1.1, 1.2)
"""By how much a part may be larger than its share: other threads would be idle meanwhile."""
_FEW = 4
"""Texts a slot; more than that are shared out well enough in any case."""


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


def equal_parts(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Row numbers in at most `count` parts of rows of like length; none if one would be much larger than its share."""
    if not lengths:
        return []
    for slack in _SLACKS:
        most = int(slack * sum(lengths) / count)
        parts = list(length_batches(lengths, most))
        if max(lengths) <= most and 1 < len(parts) <= count:
            return parts
    return []


def are_few(count: int, tokens: int, token_budget: int, slots: int) -> bool:
    """Whether so many texts, all that wait, may leave slots idle unless they are in equal parts or computed alone."""
    return count < _FEW * slots and tokens <= slots * token_budget


def slot_batches(lengths: Sequence[int], token_budget: int, slots: int) -> list[list[int]]:
    """Row numbers in batches within the budget, for so many slots; a single batch is computed alone, and may hold more.

    See `Network` for slots.
    """
    share = -(-sum(lengths) // slots)
    if are_few(len(lengths), sum(lengths), token_budget, slots):
        return equal_parts(lengths, slots) or list(length_batches(lengths, slots * token_budget))
    return list(length_batches(lengths, min(token_budget, share)))
