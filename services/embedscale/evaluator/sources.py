"""Finds data sets by URI: built-in ones, imported ones, and whatever has to be imported first."""

import asyncio
import json
import threading
from collections.abc import Callable, Mapping, Sequence

from embedscale.core.dataset import Dataset, DatasetCard, Imported
from embedscale.core.errors import DatasetNotFound
from embedscale.evaluator import builtin
from embedscale.evaluator.datasets import formats, store
from embedscale.evaluator.datasets.files import Budget, opened
from embedscale.evaluator.datasets.intake import Intake
from embedscale.evaluator.datasets.location import Fetched, Location, Origin, locate


class DatasetSources:
    """The port `DatasetSource` over all kinds of URI; `origins` by scheme."""

    def __init__(self, kept: store.DatasetStore, origins: Mapping[str, Origin], max_bytes: int) -> None:
        self.store = kept
        self._origins = origins
        self._max_bytes = max_bytes

    def cards(self) -> Sequence[DatasetCard]:
        """See `DatasetSource`."""
        return [*(builtin.load(uri).card for uri in builtin.known()), *self.store.cards()]

    def manifest(self, digest: str) -> str:
        """See `DatasetSource`."""
        return self.store.manifest(digest)

    async def load(self, uri: str) -> Dataset:
        """See `DatasetSource`; what is unchanged since it was imported is not read again."""
        named = await asyncio.to_thread(self._named, uri)
        return named or (await self._until_cancelled(uri, lenient=False, anew=False)).dataset

    async def take_in(self, uri: str, *, lenient: bool) -> Imported:
        """See `DatasetSource`."""
        named = await asyncio.to_thread(self._named, uri)
        return Imported(named) if named else await self._until_cancelled(uri, lenient=lenient, anew=True)

    def _named(self, uri: str) -> Dataset | None:
        if uri.startswith(builtin.SCHEME):
            return builtin.load(uri)
        if uri.startswith(store.SCHEME):
            return self.store.open(uri.removeprefix(store.SCHEME))
        return None

    async def _until_cancelled(self, uri: str, *, lenient: bool, anew: bool) -> Imported:
        """Import on a thread, which is told to stop when nobody waits for it any more."""
        stop = threading.Event()
        try:
            return await asyncio.to_thread(self._import, uri, lenient, anew, stop)
        finally:
            stop.set()

    def _import(self, uri: str, lenient: bool, anew: bool, stop: threading.Event) -> Imported:
        location = locate(uri)
        source = json.dumps([uri, lenient])
        state, digest = (None if anew else self.store.seen(source)) or ("", "")
        with self.store.draft() as draft:
            fetched = self._origin(location).fetch(location, state, draft)
            if fetched is None:
                return Imported(self.store.open(digest, uri))
            built = self.store.add(uri, self._filler(location, fetched), lenient=lenient, stop=stop)
        if fetched.state:
            self.store.note(source, fetched.state, built.card.digest)
        shown = "" if anew else uri
        return Imported(self.store.open(built.card.digest, shown), built.faults.first)

    def _origin(self, location: Location) -> Origin:
        if location.scheme not in self._origins:
            kinds = ", ".join([builtin.SCHEME, store.SCHEME, *(f"{scheme}:" for scheme in self._origins)])
            raise DatasetNotFound(f"{location.uri}: unknown kind of URI; there are {kinds}", field="dataset")
        return self._origins[location.scheme]

    def _filler(self, location: Location, fetched: Fetched) -> Callable[[Intake], None]:
        def fill(intake: Intake) -> None:
            budget = Budget(location.uri, self._max_bytes)
            with opened(fetched.path, fetched.name, fetched.root, budget) as files:
                formats.read(location.uri, files, location.options, intake)

        return fill
