"""What the vessel does about its files when it is asked, or when it is time: backup, verify, pack, pins."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from msgspec import structs
from ZODB.POSException import StorageError

from batos.image.address import own_uri
from batos.image.errors import NO_ROOM, CareError, disk_full
from batos.image.looking import look, note_pack, pack_failure
from batos.image.packing import horizon
from batos.image.pins import pin, pins, unpin
from batos.image.reporting import Reporter
from batos.image.server import ImageServer
from batos.image.settings import ImageSettings
from batos.image.storage import swap_in
from batos.protocol import (
    ImageBackup,
    ImageLook,
    ImagePack,
    ImagePacked,
    ImagePin,
    ImagePins,
    ImagePinsGet,
    ImageUnpin,
    ImageVerify,
    Message,
    Peer,
    Progress,
    RequestContext,
    RequestFailed,
    new_id,
)
from batos.uvm import Image, NoImageYet, Transient, UvmError, note_packed, open_image
from batos.vessel import VesselError
from batos.vessel.tool import run_tool

SERVICE = "image"
CAPACITY = 8
TOOL = "batos.image.care"
LAST_PACK = "last_pack"
"""A file whose time is that of the last scheduled pack."""
HOUR_S = 3600.0
MAX_DAYS = 36_500.0

_ID = re.compile(r"[0-9a-f]{32}")
_log = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)
R = TypeVar("R")
P = ParamSpec("P")
Handler = Callable[["Caretaker", M, RequestContext], Awaitable[Message]]


def _answered(handler: Handler[M]) -> Handler[M]:
    """Turn what goes wrong into what the asker is told."""

    @wraps(handler)
    async def answering(self: Caretaker, message: M, context: RequestContext) -> Message:
        try:
            return await handler(self, message, context)
        except VesselError as error:
            raise RequestFailed(error.code, error.message, error.hint) from error
        except Transient as error:
            raise RequestFailed("image_unreachable", str(error), "see `batos status`", transient=True) from error
        except StorageError as error:  # a commit that was refused: a full disk, here or there
            raise RequestFailed("commit_refused", str(error), "see `batos doctor`") from error
        except UvmError as error:
            raise RequestFailed("image_unusable", str(error), "see `batos image verify`") from error
        except OSError as error:
            wrong = _of_files(error, self._settings.folder)
            raise RequestFailed(wrong.code, wrong.message, wrong.hint) from error

    return answering


class Caretaker:
    """Serves the service `image`."""

    def __init__(self, server: ImageServer, settings: ImageSettings, peer: Peer) -> None:
        """Begin without doing anything.

        Args:
            server: what is cared for.
            settings: say when, and how long history is kept.
            peer: the vessel on the bus.
        """
        self._server = server
        self._settings = settings
        self._peer = peer
        self._busy = ""
        self._free = asyncio.Event()
        self._free.set()
        self._pack_error = ""
        self._schedule: asyncio.Task[None] | None = None
        self._packing: asyncio.Task[ImagePacked] | None = None

    def start(self) -> None:
        """Answer from now on, and pack when it is time."""
        handlers: dict[type[Message], Any] = {
            ImageBackup: self.backup,
            ImageVerify: self.verify,
            ImagePack: self.pack,
            ImagePin: self.pin,
            ImageUnpin: self.unpin,
            ImagePinsGet: self.pins,
            ImageLook: self.look,
        }
        self._pack_error = pack_failure(self._settings.folder)
        self._peer.serve([SERVICE], handlers, capacity=CAPACITY)
        if self._settings.image_pack_every_h > 0:
            self._schedule = asyncio.create_task(self._pack_forever(), name="image-pack")

    async def stop(self) -> None:
        """Begin nothing more."""
        if self._schedule is not None:
            self._schedule.cancel()
            await asyncio.gather(self._schedule, return_exceptions=True)

    @_answered
    async def backup(self, message: ImageBackup, context: RequestContext) -> Message:
        """Add a backup to a folder."""
        del context
        folder, own = await in_thread(lambda: (Path(message.folder).resolve(), self._settings.folder.resolve()))
        if not Path(message.folder).is_absolute() or folder.is_relative_to(own):
            raise CareError(
                "backup_folder", f"{message.folder} is no place for backups", "name a folder outside of the image's"
            )
        with self._only("a backup"):
            tid, position = self._server.position()
            place = ["--image", str(self._settings.folder), "--tid", tid, "--position", str(position)]
            how = ["--full"] if message.full else []
            return await self._tool("backup", message.request_id, [*place, *how, str(folder)])

    @_answered
    async def verify(self, message: ImageVerify, context: RequestContext) -> Message:
        """Look at everything."""
        del context
        with self._only("a look at everything (`batos image verify`)"):
            tid, _ = self._server.position()
            place = ["--image", str(self._settings.folder), "--tid", tid]
            return await self._tool("verify", message.request_id, place)

    @_answered
    async def pack(self, message: ImagePack, context: RequestContext) -> Message:
        """Give back space."""
        del context
        days = self._settings.image_pack_days if message.days is None else message.days
        if not 0 <= days <= MAX_DAYS:
            raise CareError("days_invalid", f"history cannot be kept for {days:g} days", f"give 0 to {MAX_DAYS:g}")
        return await self._pack(days, message.request_id)

    @_answered
    async def pin(self, message: ImagePin, context: RequestContext) -> Message:
        """Pin a moment."""
        del context
        with self._only("the pinning of a moment"):
            return await in_thread(self._pin, message)

    @_answered
    async def unpin(self, message: ImageUnpin, context: RequestContext) -> Message:
        """Forget a pin."""
        del context
        with self._only("the unpinning of a moment"):
            return await in_thread(self._unpin, message)

    @_answered
    async def pins(self, message: ImagePinsGet, context: RequestContext) -> Message:
        """List the pins."""
        del message, context
        return await in_thread(self._pins)

    @_answered
    async def look(self, message: ImageLook, context: RequestContext) -> Message:
        """Say how the files are; also while something else is under way."""
        del message, context
        pinned = (await in_thread(self._pins)).pins
        newest, _ = self._server.position()
        return await in_thread(look, self._settings.folder, pinned, newest, pack_error=self._pack_error)

    @contextlib.contextmanager
    def _only(self, what: str) -> Iterator[None]:
        """Do one thing at a time: packing moves every byte, which nobody else may be reading or promising meanwhile."""
        if self._busy:
            raise CareError("image_busy", f"{self._busy} is under way", "wait until it has ended, then ask again")
        self._busy = what
        self._free.clear()
        try:
            yield
        finally:
            self._busy = ""
            self._free.set()

    async def _tool(self, act: str, request_id: str, arguments: list[str]) -> Message:
        _check_id(request_id)

        def publish(event: Progress) -> None:
            self._peer.publish(f"progress/{act}/{request_id}", event)

        return await run_tool(TOOL, [act, "--id", request_id, *arguments], publish)

    async def _pack(self, days: float, request_id: str) -> ImagePacked:
        """Pack, to its end: also where nobody waits for it any more, and nothing else may move the files meanwhile."""
        _check_id(request_id)
        self._packing = asyncio.create_task(self._pack_now(days, request_id), name="image-pack-now")
        return await asyncio.shield(self._packing)

    async def _pack_now(self, days: float, request_id: str) -> ImagePacked:
        tell = Reporter("pack", request_id, lambda event: self._peer.publish(f"progress/pack/{request_id}", event))
        with self._only("a pack"):
            await self.note_packed()
            tell("looking for pins", None, None)
            until = horizon(days, (await in_thread(self._pins)).pins, time.time())
            tell("packing", None, None)
            try:
                packed = await in_thread(self._server.pack, until)
            finally:
                earliest = await self.note_packed()
            if earliest:
                packed = structs.replace(packed, earliest=earliest)
            await in_thread(note_pack, self._settings.folder)
        self._pack_error = ""
        _log.info(
            "packed up to %s: %d bytes of the file and %d of blobs were given back, in %d ms%s",
            time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(packed.horizon)),
            packed.bytes_before - packed.bytes_after,
            packed.blob_bytes_before - packed.blob_bytes_after,
            packed.duration_ms,
            f"; the pin {packed.held_by} holds the rest" if packed.held_by else "",
        )
        return packed

    async def note_packed(self) -> str:
        """Write into the image what a pack left, where that has not been done; return it, empty where there is nothing.

        Raises:
            CareError: it cannot be written.
        """
        try:
            return await in_thread(self._note_packed)
        except (StorageError, UvmError, OSError) as error:
            raise CareError(
                "pack_unnoted",
                f"the image was packed, but no note of that could be written into it: {error}",
                "what lies before is not whole any more; the next pack, or the next start, notes it",
            ) from error

    async def _pack_forever(self) -> None:
        """Pack when it is time, also where the vessel never lives for so long. Nothing that goes wrong ends it."""
        mark = self._settings.folder / LAST_PACK
        every_s = self._settings.image_pack_every_h * HOUR_S
        tried_at = _last_try(mark)
        while True:
            # A clock that was set back since the mark was made would let it wait for as long as it was set back.
            await asyncio.sleep(min(every_s, max(0.0, tried_at + every_s - time.time())))
            await self._free.wait()  # a backup at the same hour is no failure of the pack
            try:
                await self._pack(self._settings.image_pack_days, new_id())
            except Exception as error:  # noqa: BLE001 - it is told, and tried again
                self._pack_error = str(error) or type(error).__name__
                is_told = isinstance(error, VesselError | UvmError)
                _log.warning(
                    "the image was not packed, next try in %g h: %s", every_s / HOUR_S, error, exc_info=not is_told
                )
                await in_thread(note_pack, self._settings.folder, self._pack_error)
            tried_at = time.time()
            _touch(mark)

    def _pins(self) -> ImagePins:
        try:
            with open_image(own_uri(self._settings), read_only=True) as image, image.snapshot() as root:
                return ImagePins(pins=pins(root))
        except NoImageYet:
            return ImagePins(pins=())

    def _note_packed(self) -> str:
        """Write into the image what can still be looked at, so that every view of the past knows; return it."""
        swap = swap_in(self._settings.folder)
        earliest = swap.owed()
        if not earliest:
            return ""
        with self._image() as image:
            noted = image.run(lambda root: note_packed(root, earliest), user="image", note=f"packed up to {earliest}")
        swap.noted()
        return noted

    def _pin(self, message: ImagePin) -> ImagePins:
        with self._image() as image:
            pin(image, message.name, message.at, reason=message.reason, by=message.by)
        return self._pins()

    def _unpin(self, message: ImageUnpin) -> ImagePins:
        with self._image() as image:
            unpin(image, message.name)
        return self._pins()

    def _image(self) -> Image:
        """Open the image as any client does: only so do the others learn what changed."""
        return open_image(own_uri(self._settings))


def _last_try(mark: Path) -> float:
    """Return when the last scheduled pack was, seconds since the epoch; now where none was."""
    try:
        return mark.stat().st_mtime
    except OSError:
        _touch(mark)
        return time.time()


def _touch(mark: Path) -> None:
    with contextlib.suppress(OSError):
        mark.touch()


def _of_files(error: OSError, folder: Path) -> CareError:
    """Return the words for a file that could not be written or read."""
    where = str(error.filename or folder)
    why = error.strerror or str(error)
    if error.errno in NO_ROOM:
        return disk_full(where, why, "nothing is lost; free space there, and ask again")
    return CareError("image_files", f"{where} cannot be used: {why}", "see to that first, and ask again")


def _check_id(request_id: str) -> None:
    if _ID.fullmatch(request_id) is None:
        raise CareError(
            "request_id_invalid",
            f"the request's id {request_id[:64]!r} is not 32 lower-case hexadecimal digits",
            "make it with new_id()",
        )


async def in_thread(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Do some work in a thread that a vessel which has to end does not wait for: a pack may take minutes."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[R] = loop.create_future()

    def settle(result: R | None, error: BaseException | None) -> None:
        if outcome.done():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)  # type: ignore[arg-type]  # it is what `work` returned

    def run() -> None:
        result, error = None, None
        try:
            result = work(*args, **kwargs)
        except BaseException as wrong:  # noqa: BLE001 - handed to whoever waits
            error = wrong
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="image-care", daemon=True).start()
    return await outcome
