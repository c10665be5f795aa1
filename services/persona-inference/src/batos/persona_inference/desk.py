"""Which adapters are loaded: loads what is asked for, once, and makes room."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict

from batos.persona_inference.adapters import NAME, AdapterShelf, AdapterSource
from batos.persona_inference.engine import Engine
from batos.persona_inference.errors import AdapterRefused, InferenceError, Transient

_log = logging.getLogger(__name__)


class AdapterDesk:
    """Keeps the engine's adapters in step with what is asked for."""

    def __init__(self, engine: Engine, source: AdapterSource, shelf: AdapterShelf, *, most: int) -> None:
        """Begin.

        Args:
            engine: what the adapters are loaded into.
            source: where they come from.
            shelf: where they are put for the engine.
            most: how many are kept loaded, at least 1.
        """
        self._engine = engine
        self._source = source
        self._shelf = shelf
        self._most = most
        self._turn = asyncio.Lock()
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._used: OrderedDict[str, None] = OrderedDict()

    async def ensure(self, name: str) -> None:
        """Return once this adapter is loaded. Whoever stops waiting does not stop the load.

        Raises:
            AdapterRefused: it is unknown, corrupt, another base model's, or the engine cannot serve it.
            Transient: the image or the engine is away.
        """
        if NAME.fullmatch(name) is None:
            raise AdapterRefused(
                "adapter_unknown", name, f"{name!r:.80} is no adapter's name", "see `batos status` for what is bound"
            )
        self._used[name] = None
        self._used.move_to_end(name)
        if name in self._engine.loaded:
            return
        task = self._loading.get(name)
        if task is None:
            task = asyncio.create_task(self._load(name), name=f"load-{name}")
            self._loading[name] = task
            task.add_done_callback(lambda done: self._loaded(name, done))
        await asyncio.shield(task)

    async def ensure_bound(self) -> dict[str, InferenceError]:
        """Load what the image binds on this base model; return what could not be, with the reason.

        Raises:
            Transient: the image is away.
        """
        failed: dict[str, InferenceError] = {}
        for persona, name in (await self._source.bound(self._engine.facts.model_hash)).items():
            try:
                await self.ensure(name)
            except Transient:
                raise
            except InferenceError as error:
                failed[name] = error
                _log.error("%s's adapter %s cannot be loaded (%s): %s", persona, name, error.code, error)
        return failed

    async def unload(self, name: str) -> None:
        """Take an adapter out of the engine."""
        self._used.pop(name, None)
        async with self._turn:
            await self._engine.unload(name)

    async def close(self) -> None:
        """Stop loading."""
        tasks = list(self._loading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _load(self, name: str) -> None:
        async with self._turn:
            if name in self._engine.loaded:
                return
            stored = await self._source.fetch(name)
            folder = await asyncio.to_thread(self._shelf.put, stored, self._engine.facts.model_hash)
            while len(self._engine.loaded) >= self._most:
                oldest = min(self._engine.loaded, key=self._age)
                _log.info("unloading %s, which was used longest ago, to make room for %s", oldest, name)
                await self._engine.unload(oldest)
                self._used.pop(oldest, None)
            await self._engine.load(name, folder)
            _log.info("loaded %s", name)

    def _age(self, name: str) -> int:
        """Return an adapter's place in the order of use; never used comes first."""
        return next((place for place, used in enumerate(self._used) if used == name), -1)

    def _loaded(self, name: str, task: asyncio.Task[None]) -> None:
        del self._loading[name]
        if not task.cancelled():
            # Whoever waits has been told; a failure that nobody waited for any more is not lost either.
            error = task.exception()
            if error is not None:
                _log.warning("adapter %s was not loaded: %s", name, error)
