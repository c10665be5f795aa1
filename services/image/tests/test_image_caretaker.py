"""What the image's vessel answers when it is asked for care. No sockets, no server, no other process."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import pytest
from msgspec import structs
from ZODB.POSException import StorageError

from batos.image import ImageSettings, caretaker
from batos.image.caretaker import Caretaker, in_thread
from batos.image.errors import CareError
from batos.image.looking import pack_failure
from batos.image.packing import DAY_S, Horizon
from batos.image.swap import OWED
from batos.protocol import (
    ImageBackup,
    ImageLook,
    ImageLooked,
    ImagePack,
    ImagePacked,
    ImagePin,
    ImagePins,
    ImageVerify,
    Message,
    Progress,
    RequestContext,
    RequestFailed,
    new_id,
)

CONTEXT = RequestContext(id="r", parent="", sender="console", session="s", attempt=0, deadline=0)
PACKED = ImagePacked(
    horizon=0, held_by="", bytes_before=9, bytes_after=5, blob_bytes_before=0, blob_bytes_after=0, objects_before=1,
    objects_after=1, duration_ms=1,
)  # fmt: skip


class FakeServer:
    """In the place of the storage server."""

    def __init__(self) -> None:
        self.horizons: list[Horizon] = []

    def position(self) -> tuple[str, int]:
        return "0" * 15 + "7", 1234

    def pack(self, until: Horizon) -> ImagePacked:
        self.horizons.append(until)
        return PACKED


class FakePeer:
    """In the place of the bus."""

    def __init__(self) -> None:
        self.served: dict[type[Message], Any] = {}
        self.events: list[tuple[str, Progress]] = []

    def serve(self, services: Sequence[str], handlers: dict[type[Message], Any], *, capacity: int) -> None:
        assert list(services) == ["image"]
        assert capacity > 1
        self.served = handlers

    def publish(self, topic: str, event: Progress) -> None:
        self.events.append((topic, event))


class Bench:
    """A caretaker with all that it works with."""

    def __init__(self, home: Path, **settings: Any) -> None:
        self.server, self.peer = settings.pop("server", None) or FakeServer(), FakePeer()
        self.settings = ImageSettings(home=home, image_pack_every_h=settings.pop("every_h", 0), **settings)
        self.settings.folder.mkdir(parents=True, exist_ok=True)
        self.caretaker = Caretaker(self.server, self.settings, self.peer)  # type: ignore[arg-type]  # stand-ins
        self.caretaker.start()

    async def ask(self, body: Message) -> Message:
        answer: Message = await self.peer.served[type(body)](body, CONTEXT)
        return answer


class Tool:
    """In the place of the process that does the work; it ends when it is told to."""

    def __init__(self) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        self.arguments: list[str] = []

    async def __call__(self, module: str, arguments: Sequence[str], on_progress: Callable[[Progress], None]) -> Message:
        assert module == "batos.image.care"
        self.arguments = list(arguments)
        on_progress(Progress(what="backup", id="", stage="copying"))
        self.begun.set()
        await self.go_on.wait()
        return PACKED


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(Caretaker, "_pins", lambda _self: ImagePins(pins=()))
    return Bench(tmp_path / "home")


async def refused(bench: Bench, body: Message) -> str:
    with pytest.raises(RequestFailed) as caught:
        await bench.ask(body)
    assert caught.value.hint
    return caught.value.code


async def test_one_at_a_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a backup runs a pack, a second backup and a look at everything are refused; afterwards they are not."""
    tool = Tool()
    monkeypatch.setattr(caretaker, "run_tool", tool)
    request = new_id()
    running = asyncio.create_task(bench.ask(ImageBackup(request_id=request, folder="/b", full=True)))
    await tool.begun.wait()
    for body in (
        ImagePack(request_id=new_id()), ImageVerify(request_id=new_id()), ImageBackup(request_id=new_id(), folder="/b")
    ):  # fmt: skip
        assert await refused(bench, body) == "image_busy"
    tool.go_on.set()
    await running
    where = ["--image", str(bench.settings.folder), "--tid", "0" * 15 + "7", "--position", "1234"]
    assert tool.arguments == ["backup", "--id", request, *where, "--full", "/b"]
    assert bench.peer.events[0][0] == f"progress/backup/{request}"
    assert await bench.ask(ImagePack(request_id=new_id())) == PACKED


async def test_a_cancelled_request_frees_the_place(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asked for a backup and went away keeps nobody else from asking."""
    tool = Tool()
    monkeypatch.setattr(caretaker, "run_tool", tool)
    running = asyncio.create_task(bench.ask(ImageVerify(request_id=new_id())))
    await tool.begun.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await bench.ask(ImagePack(request_id=new_id())) == PACKED


async def test_what_is_asked_for_wrongly(bench: Bench) -> None:
    """Folders that are none or lie in the image's own, days that cannot be, ids that are none."""
    own = bench.settings.folder
    own.mkdir(parents=True, exist_ok=True)
    link = own.parent / "link"
    link.symlink_to(own)
    inside = (own / "b", own.parent / "run" / ".." / own.name / "b", link / "b")
    for folder in ("backups", "", *map(str, inside)):
        assert await refused(bench, ImageBackup(request_id=new_id(), folder=folder)) == "backup_folder"
    for days in (-1.0, 1e9, float("nan")):
        assert await refused(bench, ImagePack(request_id=new_id(), days=days)) == "days_invalid"
    assert await refused(bench, ImagePack(request_id="../x")) == "request_id_invalid"
    assert bench.server.horizons == []


async def test_days_are_those_set_unless_they_are_asked_for(bench: Bench) -> None:
    """30 by default."""
    await bench.ask(ImagePack(request_id=new_id()))
    await bench.ask(ImagePack(request_id=new_id(), days=1))
    first, second = (one.at for one in bench.server.horizons)
    assert second - first == pytest.approx(29 * DAY_S, abs=60)


async def test_by_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed again and again, also where one fails; the time of the last one outlives the vessel."""
    monkeypatch.setattr(Caretaker, "_pins", lambda _self: ImagePins(pins=()))
    bench = Bench(tmp_path / "home", every_h=1e-6)
    try:
        async with asyncio.timeout(30):
            while len(bench.server.horizons) < 3:  # noqa: ASYNC110 - a stand-in has no event
                await asyncio.sleep(0.001)
    finally:
        await bench.caretaker.stop()
    assert (bench.settings.folder / caretaker.LAST_PACK).exists()


class Failing(FakeServer):
    """Whose packs fail one after another, each in another way; then they are done."""

    def __init__(self, *wrong: Exception) -> None:
        super().__init__()
        self.wrong = list(wrong)

    def pack(self, until: Horizon) -> ImagePacked:
        self.horizons.append(until)
        if self.wrong:
            raise self.wrong.pop(0)
        return PACKED


async def seen(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - stand-ins have no event
            await asyncio.sleep(0.001)


async def test_nothing_ends_the_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk, a commit that was refused, a mistake: each is logged with where it was, and the next pack is made.

    What failed is still known to the vessel that is started after this one, until a pack is done.
    """
    monkeypatch.setattr(Caretaker, "_pins", lambda _self: ImagePins(pins=()))
    wrong = OSError(errno.ENOSPC, "No space left"), StorageError("the image's disk is full"), ValueError("a mistake")
    bench = Bench(tmp_path / "home", every_h=1e-6, server=Failing(*wrong))
    try:
        await seen(lambda: len(bench.server.horizons) > len(wrong) + 1)
    finally:
        await bench.caretaker.stop()
    told = [record for record in caplog.records if "was not packed" in record.getMessage()]
    assert [record.exc_info[1] for record in told if record.exc_info] == list(wrong)
    assert not pack_failure(bench.settings.folder)

    failed = Bench(tmp_path / "home", every_h=1e-6, server=Failing(*[ValueError("a mistake")] * 1000))
    try:
        await seen(lambda: bool(pack_failure(failed.settings.folder)))
    finally:
        await failed.caretaker.stop()
    later = Bench(tmp_path / "home")
    looked = await later.ask(ImageLook())
    assert isinstance(looked, ImageLooked)
    assert looked.pack_error == "a mistake"
    assert looked.packed_at > 0
    await later.ask(ImagePack(request_id=new_id()))
    looked = await later.ask(ImageLook())
    assert isinstance(looked, ImageLooked)
    assert looked.pack_error == ""


async def test_the_schedule_waits_for_what_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pack that is due during a backup is made after it, and is no failure."""
    monkeypatch.setattr(Caretaker, "_pins", lambda _self: ImagePins(pins=()))
    bench = Bench(tmp_path / "home", every_h=1e-6)
    try:
        with bench.caretaker._only("a backup"):
            before = len(bench.server.horizons)
            for _ in range(100):
                await asyncio.sleep(0)
            assert len(bench.server.horizons) == before
        await seen(lambda: len(bench.server.horizons) > before + 1)
    finally:
        await bench.caretaker.stop()
    assert not pack_failure(bench.settings.folder)


async def test_a_mark_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The schedule goes on, and no faster."""
    monkeypatch.setattr(Caretaker, "_pins", lambda _self: ImagePins(pins=()))

    def full(_self: Path, *_args: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left")

    monkeypatch.setattr(Path, "touch", full)
    bench = Bench(tmp_path / "home", every_h=1e-6)
    try:
        await seen(lambda: len(bench.server.horizons) > 1)
    finally:
        await bench.caretaker.stop()


async def test_a_disk_that_is_full_while_it_is_asked(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is the vessel's own files or the commit that notes what was packed: a sentence says so."""
    full = OSError(errno.ENOSPC, "No space left on device", "/home/image/file")
    bench.caretaker._server = Failing(full, OSError(errno.EACCES, "Permission denied"))
    with pytest.raises(RequestFailed, match="there is no room left for /home/image/file: No space") as caught:
        await bench.ask(ImagePack(request_id=new_id()))
    assert caught.value.code == "disk_full"
    assert await refused(bench, ImagePack(request_id=new_id())) == "image_files"

    def refuse(_self: Caretaker, *_args: object) -> str:
        raise StorageError("the image's disk is full (/home/image): nothing of this transaction is stored")

    monkeypatch.setattr(Caretaker, "_note_packed", refuse)
    monkeypatch.setattr(Caretaker, "_pin", refuse)
    server = FakeServer()
    monkeypatch.setattr(server, "pack", lambda _until: structs.replace(PACKED, earliest="0000000000000007"))
    bench.caretaker._server = server
    with pytest.raises(RequestFailed, match=r"was packed, but no note .*disk is full") as caught:
        await bench.ask(ImagePack(request_id=new_id()))
    assert caught.value.code == "pack_unnoted"
    assert await refused(bench, ImagePin(name="a", at="", reason="", by="")) == "commit_refused"


async def test_a_schedule_outlives_a_clock_that_was_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A last pack that lies in the future is no reason to wait longer than from one pack to the next."""
    monkeypatch.setattr(Caretaker, "_pins", lambda _self: ImagePins(pins=()))
    folder = tmp_path / "home" / "image"
    folder.mkdir(parents=True)
    mark = folder / caretaker.LAST_PACK
    mark.touch()
    ahead = time.time() + 365 * DAY_S
    os.utime(mark, (ahead, ahead))
    bench = Bench(tmp_path / "home", every_h=1e-6)
    try:
        async with asyncio.timeout(30):
            while not bench.server.horizons:  # noqa: ASYNC110 - a stand-in has no event
                await asyncio.sleep(0.001)
    finally:
        await bench.caretaker.stop()


class FakeImage:
    """In the place of the image, as clients see it."""

    def __init__(self) -> None:
        self.root: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_wrong: object) -> None:
        return

    def run(self, work: Callable[[dict[str, str]], str], **_named: str) -> str:
        return work(self.root)


async def test_what_a_pack_left_is_written_into_the_image(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a pack, also one that said that something is left to be done, and before the next where it could not be.

    The reply says what stands there, which may be later than what this pack says.
    """
    image = FakeImage()
    monkeypatch.setattr(Caretaker, "_image", lambda _self: image)
    owed = bench.settings.folder / OWED
    assert await bench.ask(ImagePack(request_id=new_id())) == PACKED
    assert image.root == {}

    def packed(tid: int, wrong: Exception | None = None) -> Callable[[Horizon], ImagePacked]:
        def pack(_until: Horizon) -> ImagePacked:
            owed.write_text(f"{tid:016x}")
            if wrong is not None:
                raise wrong
            return structs.replace(PACKED, earliest=f"{tid:016x}")

        return pack

    for tid, noted in ((9, 9), (7, 9)):
        monkeypatch.setattr(bench.server, "pack", packed(tid))
        answer = await bench.ask(ImagePack(request_id=new_id()))
        assert isinstance(answer, ImagePacked)
        assert answer.earliest == f"{noted:016x}"
        assert not owed.exists()
    monkeypatch.setattr(bench.server, "pack", packed(10, CareError("pack_unfinished", "packed, but", "see")))
    assert await refused(bench, ImagePack(request_id=new_id())) == "pack_unfinished"
    assert (list(image.root.values()), owed.exists()) == ([f"{10:016x}"], False)

    owed.write_text(f"{11:016x}")
    seen_first: list[str] = []

    def pack(_until: Horizon) -> ImagePacked:
        seen_first.extend(image.root.values())
        return PACKED

    monkeypatch.setattr(bench.server, "pack", pack)
    await bench.ask(ImagePack(request_id=new_id()))
    assert seen_first == [f"{11:016x}"]


async def test_a_pack_goes_on_where_nobody_waits_for_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asked is gone, the files still move: nothing else may read them until that has ended."""
    begun, go_on = threading.Event(), threading.Event()

    def pack(_until: Horizon) -> ImagePacked:
        begun.set()
        assert go_on.wait(30)
        return PACKED

    monkeypatch.setattr(bench.server, "pack", pack)
    asking = asyncio.create_task(bench.ask(ImagePack(request_id=new_id())))
    await asyncio.to_thread(begun.wait, 30)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert await refused(bench, ImageBackup(request_id=new_id(), folder="/b")) == "image_busy"
    go_on.set()
    await seen(lambda: not bench.caretaker._busy)


async def test_work_in_a_thread() -> None:
    """Its result or its error comes back."""
    assert await in_thread(lambda: 42) == 42
    with pytest.raises(ValueError, match="no"):
        await in_thread(int, "no")
