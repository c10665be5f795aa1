"""Migrations over real ZEO: processes that are killed, stopped and woken half-way, writers that work on, kernels."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.kernel_fixtures import MindUnderTest
from integration.uvm_servers import clean_environment, server_here, short_folder

from batos.kernel import missions
from batos.kernel.migrations import BATCH
from batos.kernel.mission_shape import AT_FIRST, is_whole
from batos.mind import compatibility
from batos.mind.migrations import Progress as HowFar
from batos.mind.migrations import progress
from batos.protocol import ImageMigrate, ImageMigrated, MissionStatus, Progress, new_id
from batos.uvm import Image, Root, UvmObject, open_image

MIGRATOR = Path(__file__).with_name("image_migrator.py")
MISSIONS = 20_000
TIMEOUT_S = 60.0
pytestmark = pytest.mark.timeout(180)


def fill(image: Image, number: int) -> None:
    """Missions as version 1 had them: one in three ended, and has what an ended one had then."""
    image.run(missions.ensure)

    def part(places: range) -> Callable[[Root], None]:
        def work(root: Root) -> None:
            for place in places:
                mission_id = f"{place:030x}{place % 256:02x}"
                ended = {name: value for name, value in AT_FIRST.items() if place % 3 == 0 and name in OF_THE_ENDED}
                root["missions"].shards[place % missions.SHARDS][mission_id] = UvmObject(
                    mission_id=mission_id, text="Name it.", requested_weaver="", author="architect",
                    state="COMPLETE" if ended else "ACCEPTED", kernel="", incarnation="", epoch=0, adoptions=0,
                    cycle_id="", submitted_at=1.0, **ended,
                )  # fmt: skip

        return work

    for first in range(0, number, 2_000):
        image.run(part(range(first, min(number, first + 2_000))))


OF_THE_ENDED = frozenset(AT_FIRST) - {"thought_tid", "undone_tid", "restored", "made", "left"}


@pytest.fixture
def uri() -> Iterator[str]:
    with short_folder() as folder, server_here(folder) as socket:
        yield f"zeo://{socket}?wait_timeout=20"


@pytest.fixture
def image(uri: str) -> Iterator[Image]:
    with open_image(uri) as found:
        fill(found, MISSIONS)
        yield found


class Migrator:
    """One process that migrates."""

    def __init__(self, uri: str, name: str, lease_s: float = 60.0, *, paced: bool = False) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(MIGRATOR), uri, name, new_id(), str(lease_s), *(["paced"] if paced else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=clean_environment(),
        )

    def said(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it ended with {self.process.wait(TIMEOUT_S)}"
        found: dict[str, Any] = json.loads(line)
        return found

    def go(self, batches: int = 1) -> None:
        """Let a paced one do so many batches."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n" * batches)
        self.process.stdin.flush()

    def until(self, batches: int) -> dict[str, Any]:
        """Wait until it has done so many batches."""
        while (found := self.said()).get("batches", 0) < batches:
            pass
        return found

    def ended(self) -> dict[str, Any]:
        """Wait for its last word."""
        while not {"done", "refused"} & (found := self.said()).keys():
            pass
        assert self.process.wait(TIMEOUT_S) == int("refused" in found)
        return found

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait(TIMEOUT_S)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def start(uri: str) -> Iterator[Callable[..., Migrator]]:
    with contextlib.ExitStack() as stack:

        def begin(name: str, **other: Any) -> Migrator:
            found = Migrator(uri, name, **other)
            stack.callback(found.close)
            return found

        yield begin


def stands(image: Image) -> HowFar | None:
    with image.snapshot() as root:
        return progress(root)


def statuses(image: Image) -> dict[str, MissionStatus]:
    with image.snapshot() as root:
        return {record.mission_id: missions.status(record) for record in missions.newest(root, MISSIONS)}


def test_a_killed_runner_is_gone_on_with_by_another_process(image: Image, start: Callable[..., Migrator]) -> None:
    """SIGKILL half-way; who tries while one is at it is refused by name; every mission says what it said before."""
    before = statuses(image)
    first = start("kernel-1", paced=True)
    first.go(5)
    first.until(5)
    second = start("kernel-2")
    assert second.said() == {"begins": "kernel-2"}
    while second.process.poll() is None:
        first.go()
        time.sleep(0.05)
    refused = second.ended()
    assert refused["refused"] == "migration_runs"
    assert "kernel-1 is migrating the image to version 2" in refused["message"]
    assert f"of {MISSIONS:,}" in refused["message"]
    first.process.send_signal(signal.SIGKILL)
    first.process.wait(TIMEOUT_S)
    left = stands(image)
    assert left is not None
    assert 5 * BATCH < left.looked < MISSIONS
    with image.snapshot() as root:
        assert (compatibility.image_version(root), compatibility.migrating_to(root)) == (1, 2)
    heir = start("kernel-3", lease_s=0.5)
    third = start("kernel-4", lease_s=30.0)
    done = heir.ended()
    assert (done["done"], done["looked_before"], done["changed"]) == ([2], [left.looked], [MISSIONS])
    assert done["batches"] == [MISSIONS // BATCH]
    assert third.ended().get("refused", "migration_runs") == "migration_runs"
    assert statuses(image) == before
    with image.snapshot() as root:
        assert all(is_whole(record) for shard in root["missions"].shards for record in shard.values())
        assert compatibility.image_version(root) == 2


def test_a_stopped_runner_that_wakes_up_again_writes_nothing(image: Image, start: Callable[..., Migrator]) -> None:
    """SIGSTOP within a batch, taken over from, SIGCONT: it is told that it is another's now."""
    first = start("kernel-1", paced=True)
    first.go(3)
    first.until(3)
    first.process.send_signal(signal.SIGSTOP)
    heir = start("kernel-2", lease_s=0.5)
    heir.until(4)
    first.process.send_signal(signal.SIGCONT)
    first.go()
    told = first.ended()
    assert told["refused"] == "migration_superseded"
    done = heir.ended()
    assert (done["changed"], done["batches"]) == ([MISSIONS], [MISSIONS // BATCH])
    found = stands(image)
    assert found is not None
    assert (found.epoch, found.done) == (2, True)


def test_who_works_on_meanwhile_loses_nothing(image: Image, start: Callable[..., Migrator]) -> None:
    """A writer changes missions of the batch that is under way; batches that meet it are done again."""
    wrote: list[str] = []
    ended = threading.Event()

    def work_on() -> None:
        rnd = random.Random(1)
        last: Any = None
        while not ended.is_set():
            found = stands(image)
            if found is None or not found.cursor or found.cursor == last:
                continue
            last = found.cursor
            place, key = last

            def change(root: Root, place: Any = place, key: Any = key) -> str:
                shard = root["missions"].shards[place]
                near = [record for _, record in zip(range(BATCH // 4), shard.values(min=key), strict=False)]
                record = rnd.choice(near)
                record.adoptions = record.adoptions + 1
                return str(record.mission_id)

            wrote.append(image.run(change, attempts=1_000))

    writer = threading.Thread(target=work_on)
    writer.start()
    try:
        done = start("kernel-1").ended()
    finally:
        ended.set()
        writer.join()
    assert (done["changed"], done["batches"]) == ([MISSIONS], [MISSIONS // BATCH])
    assert done["steps"] > done["batches"][0]
    assert wrote
    with image.snapshot() as root:
        written = {mission_id: missions.find(root, mission_id).adoptions for mission_id in wrote}
        assert all(is_whole(missions.find(root, mission_id)) for mission_id in wrote)
    assert sum(written.values()) == len(wrote)


async def test_kernels_migrate_under_a_waiting_client(mind: MindUnderTest) -> None:
    """A dry run, then the run: its kernel is killed half-way, the other finishes for the same request."""
    await mind.begin()
    mind.start_kernel("kernel-1")
    await mind.ready("kernel-1")
    await asyncio.to_thread(fill, mind.image, MISSIONS)
    mind.image.run(lambda root: compatibility.set_image_version(root, 1))
    mind.start_kernel("kernel-2")
    await mind.ready("kernel-1", "kernel-2")

    async def asked(request_id: str, **other: Any) -> ImageMigrated:
        body = ImageMigrate(request_id=request_id, **other)
        return await mind.client.request("kernel", body, ImageMigrated, timeout_s=100)

    paper = await asked(new_id(), dry_run=True)
    assert (paper.version, paper.against, stands(mind.image)) == (1, "", None)
    assert paper.migrations[0].changed == MISSIONS
    request_id = new_id()
    async with mind.client.subscribe(f"progress/migrate/{request_id}") as events:
        run = asyncio.create_task(asked(request_id))
        told = [event async for _, event in _first(2, events)]
    assert all(isinstance(event, Progress) and event.stage.startswith("2: ") for event in told)
    found = await asyncio.to_thread(stands, mind.image)
    assert found is not None
    killed = found.owner.name
    mind.end(killed)
    done = await run
    assert done.version == 2
    assert (done.migrations[0].looked, done.migrations[0].changed) == (MISSIONS + 1, MISSIONS)
    assert done.migrations[0].looked_before > 0
    after = await asyncio.to_thread(stands, mind.image)
    assert after is not None
    assert (after.done, after.epoch) == (True, 2)
    mission_id = await mind.submit()
    assert (await mind.wait(mission_id)).state == "COMPLETE"


async def _first(number: int, events: Any) -> Any:
    for place in range(number):
        yield place, await anext(events)
