"""Finds the texts for whose sake an upstream refuses a call, so that the others are embedded."""

from collections.abc import Awaitable, Callable, Sequence
from itertools import chain

from embedscale.core.errors import UpstreamRejected
from embedscale.openai_proxy.orders import Order, QueuedText
from embedscale.openai_proxy.upstream import TextsRefused

_CALLS_PER_LEVEL = 4
"""Two halves for each of two refused texts."""
_HOPELESS_CALLS = 4
"""If so many parts of a call are refused and none is taken, the texts are not what the upstream objects to."""

Fill = Callable[[Sequence[QueuedText]], Awaitable[None]]


async def isolate(texts: Sequence[QueuedText], fill: Fill, error: UpstreamRejected) -> None:
    """Halve what was refused until single texts are left, with at most 4 log2(n) further calls.

    A single text that is refused is told to its order by position, if other texts were taken. Otherwise, and when the
    calls are used up, what is left of each order is asked for by itself, so that nobody suffers from another's texts;
    an order that is refused then ends with `error`. Raises what `fill` raises, but for TextsRefused.
    """
    calls_left = _CALLS_PER_LEVEL * (len(texts) - 1).bit_length() if texts else 0
    suspects, alone = ([texts], []) if len(texts) > 1 else ([], [texts])
    taken = refused = 0
    while suspects and calls_left and (taken or refused < _HOPELESS_CALLS):
        group = suspects.pop()
        for half in (group[: len(group) // 2], group[len(group) // 2 :]):
            calls_left -= 1
            if await _taken(half, fill):
                taken += 1
            else:
                refused += 1
                (suspects if len(half) > 1 else alone).append(half)
    left = _by_order(suspects if taken else [*suspects, *alone])
    refused_orders = [some for some in left if len(left) == 1 or not await _taken(some, fill)]
    for group in alone if taken else ():
        group[0].order.refuse(group[0].position)
    for some in refused_orders:
        some[0].order.give_up(error)


def _by_order(groups: Sequence[Sequence[QueuedText]]) -> list[list[QueuedText]]:
    orders: dict[Order, list[QueuedText]] = {}
    for text in chain.from_iterable(groups):
        orders.setdefault(text.order, []).append(text)
    return list(orders.values())


async def _taken(texts: Sequence[QueuedText], fill: Fill) -> bool:
    try:
        await fill(texts)
    except TextsRefused:
        return False
    return True
