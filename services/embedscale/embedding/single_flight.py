"""Identical work that is in flight at the same time is done once."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ResultT = TypeVar("ResultT")


@dataclass(eq=False)
class Flight(Generic[KeyT, ResultT]):
    """One batch of keys being worked on, and how many wait for it."""

    keys: Sequence[KeyT]
    task: "asyncio.Task[Mapping[KeyT, ResultT]]"
    waiters: int = field(default=0)


Work = Callable[[Sequence[KeyT]], Awaitable[Mapping[KeyT, ResultT]]]


class SingleFlight(Generic[KeyT, ResultT]):
    """Joins callers who want the same key at the same time.

    A caller that leaves fails nobody else; work that nobody waits for any longer is cancelled. If a flight fails
    with an error of `own_faults`, which is the fault of one of its keys, others who joined it try without it.
    """

    def __init__(self, own_faults: tuple[type[Exception], ...]) -> None:
        self._own_faults = own_faults
        self._flights: dict[KeyT, Flight[KeyT, ResultT]] = {}

    async def run(self, keys: Sequence[KeyT], work: Work[KeyT, ResultT]) -> tuple[dict[KeyT, ResultT], int]:
        """Results of distinct keys, and how many of them came from others' flights. Raises what `work` raises."""
        joined = {key: self._flights[key] for key in keys if key in self._flights}
        fresh = [key for key in keys if key not in joined]
        own = [self._started(fresh, work)] if fresh else []
        await self._landed(own, set(joined.values()))
        results = {key: result for flight in own for key, result in flight.task.result().items()}
        results |= {key: flight.task.result()[key] for key, flight in joined.items() if not _failed(flight)}
        if failed := [key for key in keys if key not in results]:
            results |= await work(failed)
        return results, len(keys) - len(fresh) - len(failed)

    def _started(self, keys: Sequence[KeyT], work: Work[KeyT, ResultT]) -> Flight[KeyT, ResultT]:
        flight = Flight(keys, asyncio.create_task(_worked(work, keys)))
        self._flights |= dict.fromkeys(keys, flight)
        flight.task.add_done_callback(lambda _: self._remove(flight))
        return flight

    async def _landed(self, own: Sequence[Flight[KeyT, ResultT]], joined: set[Flight[KeyT, ResultT]]) -> None:
        """Wait for all flights, or for a failure that is to be raised; leave them whatever happens."""
        flights = {*own, *joined}
        for flight in flights:
            flight.waiters += 1
        try:
            pending = {flight.task for flight in flights}
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    self._raise_unless_foreign(task, {flight.task for flight in own})
        finally:
            for flight in flights:
                self._leave(flight)

    def _raise_unless_foreign(
        self, task: "asyncio.Task[Mapping[KeyT, ResultT]]", own: "set[asyncio.Task[Mapping[KeyT, ResultT]]]"
    ) -> None:
        """Raise the failure of a task, unless it may be that of a key of somebody else."""
        if task.cancelled():
            return
        error = task.exception()
        if error and (task in own or not isinstance(error, self._own_faults)):
            raise error

    def _leave(self, flight: Flight[KeyT, ResultT]) -> None:
        flight.waiters -= 1
        if not flight.waiters and not flight.task.done():
            flight.task.cancel()
            self._remove(flight)

    def _remove(self, flight: Flight[KeyT, ResultT]) -> None:
        for key in flight.keys:
            if self._flights.get(key) is flight:
                del self._flights[key]
        if flight.task.done() and not flight.task.cancelled():
            flight.task.exception()  # seen: those who wait raise it, and nobody may be waiting


async def _worked(work: Work[KeyT, ResultT], keys: Sequence[KeyT]) -> Mapping[KeyT, ResultT]:
    return await work(keys)


def _failed(flight: Flight[KeyT, ResultT]) -> bool:
    return flight.task.cancelled() or flight.task.exception() is not None
