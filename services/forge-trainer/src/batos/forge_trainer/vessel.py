"""The forge: keeps its order folder in step with the image, and works on what arrives there."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import ClassVar

from batos.forge_trainer import order_files
from batos.forge_trainer.errors import ForgeError
from batos.forge_trainer.metrics import ForgeMetrics
from batos.forge_trainer.settings import ForgeSettings
from batos.forge_trainer.watching import FolderWatch
from batos.forge_trainer.work import Smith
from batos.mind import MindError, NotFound, orders
from batos.mind.orders import Order
from batos.protocol import OrderGet, OrderStatus, RequestContext, RequestFailed
from batos.uvm import CommitFateUnknown, Image, Transient, UvmError, open_image
from batos.vessel import StartFailed, Vessel, VesselError

SERVICE = "forge"
CAPACITY = 8
ORDER_FOLDER = "orders"

_log = logging.getLogger("batos.forge")


class ForgeVessel(Vessel[ForgeSettings]):
    """Trains and measures adapters, one order at a time."""

    kind: ClassVar[str] = "forge"
    distribution: ClassVar[str] = "batos-forge-trainer"

    def __init__(self, settings: ForgeSettings) -> None:
        super().__init__(settings)
        self.metrics = ForgeMetrics(self.registry)
        self.folder = settings.home / ORDER_FOLDER
        self._arrived: asyncio.Queue[Path] = asyncio.Queue()
        self._waiting: asyncio.Queue[str] = asyncio.Queue()
        self._taken: set[str] = set()
        self._image: Image | None = None
        self._watch: FolderWatch | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Open the image, watch the folder, and begin to work."""
        try:
            self._image = await asyncio.to_thread(open_image, self.settings.image_uri)
        except UvmError as error:
            raise StartFailed("image_unreachable", f"the image cannot be opened: {error}", "is it up?") from error
        smith = Smith(peer=self.peer, image=self._image, settings=self.settings, metrics=self.metrics)
        await asyncio.to_thread(self.folder.mkdir, parents=True, exist_ok=True)
        loop = asyncio.get_running_loop()

        def arrived(path: Path) -> None:
            loop.call_soon_threadsafe(self._arrived.put_nowait, path)

        self._watch = FolderWatch(self.folder, arrived)
        await asyncio.to_thread(self._watch.start)
        self.peer.serve([SERVICE], {OrderGet: self._get}, capacity=CAPACITY)
        for name, work in (
            ("sync", self._sync_forever()),
            ("arrivals", self._take_in_forever()),
            ("work", self._work_forever(smith)),
        ):
            task = asyncio.create_task(work, name=name)
            task.add_done_callback(self._ended)
            self._tasks.append(task)
        self.set_ready(True)

    async def drain(self, timeout_s: float) -> None:
        """Stop working at once: the training goes on from its last checkpoint in the successor."""
        await self._end_tasks()
        await super().drain(timeout_s)

    async def stop(self) -> None:
        """End training, watching and the image."""
        await self._end_tasks()
        if self._watch is not None:
            await asyncio.to_thread(self._watch.close)
        if self._image is not None:
            await asyncio.to_thread(self._image.close)

    @property
    def image(self) -> Image:
        """The image; open from `start` on."""
        if self._image is None:
            raise StartFailed("image_closed", "the image is not open: start() opens it")
        return self._image

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A loop that ends by an error is the end of this vessel: its keeper starts another."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(VesselError("forge_failed", f"{task.get_name()}: {type(error).__name__}: {error}"))

    async def _sync_forever(self) -> None:
        """Keep the folder in step with the records."""
        while True:
            try:
                await asyncio.to_thread(self._sync)
            except UvmError as error:
                _log.warning(
                    "the order folder is not in step, next look in %g s: %s", self.settings.forge_sync_interval_s, error
                )
            if self._watch is not None and not self._watch.alive:
                raise ForgeError("watch_ended", f"{self.folder} is no longer watched")
            await asyncio.sleep(self.settings.forge_sync_interval_s)

    def _sync(self) -> None:
        with self.image.snapshot() as root:
            known = orders.all_orders(root)
        self.metrics.count(known)
        for path in order_files.sync(self.folder, known):
            _log.info("wrote %s", path.name)

    async def _take_in_forever(self) -> None:
        """Make a record of every file that has none, and work of every order that is pending."""
        while True:
            path = await self._arrived.get()
            try:
                order = await asyncio.to_thread(self._recorded, path)
            except (ForgeError, MindError) as error:
                _log.warning("%s is refused: %s", path.name, error)
                self.metrics.refused_files.inc()
                await asyncio.to_thread(order_files.complain, path, error)
            except (Transient, CommitFateUnknown) as error:
                _log.warning("%s waits for the image: %s", path.name, error)
                await asyncio.sleep(self.settings.forge_sync_interval_s)
                self._arrived.put_nowait(path)
            else:
                if order is not None and order.state in orders.PENDING and order.order_id not in self._taken:
                    self._taken.add(order.order_id)
                    self._waiting.put_nowait(order.order_id)

    def _recorded(self, path: Path) -> Order | None:
        """Return the record of the order in a file; a file dropped by hand becomes a record first."""
        if not path.exists():
            return None
        found = order_files.read(path)
        try:
            with self.image.snapshot() as root:
                order = orders.get(root, found.order_id)
        except NotFound:
            if found.state != "ORDERED":
                raise ForgeError(
                    "order_unknown", f"the image holds no order {found.order_id} that could be {found.state}"
                ) from None
            order = self.image.run(
                lambda root: orders.create(
                    root, order_id=found.order_id, persona=found.persona, dataset_id=found.dataset_id
                ),
                user=self.name,
                note=f"order {found.order_id}, dropped as {path.name}",
            )
            written = order_files.write(self.folder, order)
            if written != path:
                path.unlink(missing_ok=True)
        order_files.stop_complaining(path)
        return order

    async def _work_forever(self, smith: Smith) -> None:
        while True:
            order_id = await self._waiting.get()
            self.metrics.training.set(1)
            try:
                order = await self._worked(smith, order_id)
            finally:
                self.metrics.training.set(0)
            if order is None:
                self.metrics.restarts.inc()
                await asyncio.sleep(self.settings.forge_sync_interval_s)
                self._waiting.put_nowait(order_id)
                continue
            self._taken.discard(order_id)
            _log.info("order %s is %s: %s", order_id, order.state, order.verdict or order.error)

    async def _worked(self, smith: Smith, order_id: str) -> Order | None:
        """Work on an order; return it decided, or None where the image was away and it has to be taken up again."""
        try:
            try:
                return await smith.work(order_id)
            except (ForgeError, MindError, OSError) as error:
                return await smith.fail(order_id, error)
            except (Transient, CommitFateUnknown):
                raise
            except Exception as error:  # noqa: BLE001 - a fault of ours must not be met again after every restart
                _log.exception("order %s", order_id)
                return await smith.fail(order_id, error)
        except (Transient, CommitFateUnknown) as error:
            _log.warning("order %s waits for the image: %s", order_id, error)
            return None

    async def _get(self, message: OrderGet, context: RequestContext) -> OrderStatus:
        del context
        try:
            return orders.status(await asyncio.to_thread(self._order, message.order_id))
        except MindError as error:
            raise RequestFailed(error.code, error.message, error.hint) from error
        except Transient as error:
            raise RequestFailed("image_unreachable", str(error), "is it up?", transient=True) from error

    def _order(self, order_id: str) -> Order:
        with self.image.snapshot() as root:
            return orders.get(root, order_id)
