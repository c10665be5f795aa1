"""Kernels that are killed, stopped and woken, and an image that goes away."""

from __future__ import annotations

import asyncio
import json
import signal
import time

import pytest
from integration.kernel_fixtures import ANSWER, MindUnderTest

from batos.kernel import missions
from batos.kernel.chain import verify_folder
from batos.kernel.genesis import GENESIS_MISSION_ID

pytestmark = pytest.mark.timeout(180)


async def begun(mind: MindUnderTest, *, other: bool = True) -> str:
    """Start kernel-1, have it begin a mission that waits for its first answer, and start kernel-2 beside it."""
    await mind.begin()
    mind.start_kernel("kernel-1")
    await mind.ready("kernel-1")
    await mind.wait(GENESIS_MISSION_ID)
    mind.engine.gate.clear()
    mission_id = await mind.submit()
    await mind.until(lambda: mission_id in mind.engine.missions(), "the mission to begin")
    if other:
        mind.start_kernel("kernel-2")
        await mind.ready("kernel-2")
    return mission_id


async def test_killed_kernels_mission_is_adopted(mind: MindUnderTest) -> None:
    """A mission whose kernel is killed in the middle is started again by another, under the same cycle's id."""
    mission_id = await begun(mind)
    cycle = mind.engine.asked[-1].label.cycle_id
    waiting = asyncio.create_task(mind.wait(mission_id))
    mind.end("kernel-1")
    mind.engine.gate.set()
    status = await waiting
    assert (status.state, status.answer, status.kernel) == ("COMPLETE", ANSWER, "kernel-2")
    assert (status.epoch, status.cycle_id) == (2, cycle)
    adopted = [record for record in mind.records() if record["detail"].get("what") == "adopted"]
    assert [record["mission_id"] for record in adopted] == [mission_id]


async def test_killed_kernels_mission_is_adopted_by_its_successor(mind: MindUnderTest) -> None:
    """A lone kernel that is killed and started again finds the same mind and what it was at."""
    mission_id = await begun(mind, other=False)
    mind.end("kernel-1")
    mind.start_kernel("kernel-1", label="successor")
    await mind.ready("successor")
    mind.engine.gate.set()
    status = await mind.wait(mission_id)
    assert (status.state, status.epoch) == ("COMPLETE", 2)


async def test_acknowledged_missions_outlive_their_kernel(mind: MindUnderTest) -> None:
    """Whatever was acknowledged before a kernel was killed is answered, what ran and what waited."""
    await mind.begin()
    mind.engine.gate.clear()
    mind.start_kernel("kernel-1")
    await mind.ready("kernel-1")
    ids = [await mind.submit(f"Name boat {count}.") for count in range(12)]
    mind.end("kernel-1")
    mind.start_kernel("kernel-2")
    await mind.ready("kernel-2")
    mind.engine.gate.set()
    found = await asyncio.gather(*(mind.wait(mission_id) for mission_id in ids))
    assert {status.state for status in found} == {"COMPLETE"}


async def test_stale_owner_is_fenced(mind: MindUnderTest) -> None:
    """A kernel that is stopped, loses its mission to another and wakes up again writes nothing about it."""
    mission_id = await begun(mind)
    stale = mind.processes["kernel-1"]
    stale.send_signal(signal.SIGSTOP)

    def adopted() -> bool:
        with mind.image.snapshot() as root:
            return bool(missions.find(root, mission_id).kernel == "kernel-2")

    await mind.until(adopted, "kernel-2 to adopt the mission")
    mind.engine.gate.set()
    status = await mind.wait(mission_id)
    assert (status.state, status.kernel, status.epoch) == ("COMPLETE", "kernel-2", 2)
    stale.send_signal(signal.SIGCONT)
    await mind.until(
        lambda: f"mission {mission_id} is no longer this kernel's" in mind.outputs["kernel-1"].read_text(),
        "the stale owner to be fenced",
    )
    assert await mind.wait(mission_id) == status
    await mind.ready("kernel-1", "kernel-2")
    assert (await mind.wait(await mind.submit())).state == "COMPLETE"


async def test_log_outlives_its_kernel(mind: MindUnderTest) -> None:
    """Every record of an answered mission is on disk within a second of the answer, and its chain is sound."""
    await mind.begin()
    mind.start_kernel("kernel-1")
    await mind.ready("kernel-1")
    status = await mind.wait(await mind.submit())
    answered_at = time.monotonic()

    def ends() -> list[dict[str, object]]:
        mine = [record for record in mind.records() if record["cycle_id"] == status.cycle_id]
        return [record for record in mine if record["event_type"] == "FINAL_OUTCOME"]

    await mind.until(ends, "the outcome to be logged", 1.0)
    assert time.monotonic() - answered_at < 1
    mind.end("kernel-1")
    assert verify_folder(mind.log / "kernel-1").sound
    assert ends()[0]["transaction_id"] == status.tid
    events = [record["event_type"] for record in mind.records() if record["cycle_id"] == status.cycle_id]
    assert events.count("LLM_PROMPT") == events.count("LLM_RESPONSE") == 4
    with (mind.log / "kernel-1" / "metacognition.jsonl").open("ab") as file:
        file.write(b'{"timestamp":"torn')
    mind.start_kernel("kernel-1", label="successor")
    await mind.ready("successor")
    report = verify_folder(mind.log / "kernel-1")
    assert report.sound, report.faults
    started = [record for record in mind.records() if record["detail"].get("what") == "started"]
    assert [record["detail"]["torn"] for record in started] == [0, 1]


async def test_owed_outcome_is_written_by_an_adopter(mind: MindUnderTest) -> None:
    """Where a kernel dies between commit and record, another writes the record that it owed, once."""
    await mind.begin()
    mind.start_kernel("kernel-1")
    await mind.ready("kernel-1")
    status = await mind.wait(await mind.submit())
    await mind.wait(GENESIS_MISSION_ID)
    await asyncio.to_thread(mind.end, "kernel-1")
    for path in (mind.log / "kernel-1").glob("metacognition*.jsonl"):
        kept = [line for line in path.read_bytes().splitlines(keepends=True) if b"FINAL_OUTCOME" not in line]
        path.write_bytes(b"".join(kept))

    def reopen(root: dict[str, object]) -> None:
        opened = root[missions.MISSIONS].open[int(status.mission_id[-2:], 16) % missions.SHARDS]  # type: ignore[attr-defined]
        opened.insert(status.mission_id)

    mind.image.run(reopen)
    mind.start_kernel("kernel-2")
    mind.start_kernel("kernel-3")
    await mind.ready("kernel-2", "kernel-3")

    def owed() -> list[dict[str, object]]:
        return [
            record
            for record in mind.records()
            if record["mission_id"] == status.mission_id and record["event_type"] == "FINAL_OUTCOME"
        ]

    await mind.until(owed, "the record to be written")
    assert owed()[0]["transaction_id"] == status.tid
    assert owed()[0]["kernel"] in {"kernel-2", "kernel-3"}

    def tidied() -> bool:
        with mind.image.snapshot() as root:
            return not missions.open_missions(root)

    await mind.until(tidied, "nothing to be open")
    assert len(owed()) == 1


async def test_image_that_restarts(mind: MindUnderTest) -> None:
    """A killed image costs time: what is submitted meanwhile is acknowledged once it is back, and all is answered."""
    mission_id = await begun(mind, other=False)
    mind.end("image")
    submitting = asyncio.create_task(mind.submit("Name a ship."))
    mind.engine.gate.set()
    mind.start_image()
    first, second = await mind.wait(mission_id), await mind.wait(await submitting)
    assert (first.state, second.state) == ("COMPLETE", "COMPLETE"), (first.error, second.error)
    assert first.epoch == 1


async def test_bus_that_restarts(mind: MindUnderTest) -> None:
    """A killed bus costs time: nobody is adopted from, and the mission is answered by its own kernel."""
    mission_id = await begun(mind)
    mind.bus.kill()
    mind.bus.start()
    mind.engine.gate.set()
    status = await mind.wait(mission_id)
    assert (status.state, status.kernel, status.epoch) == ("COMPLETE", "kernel-1", 1)


async def test_engine_that_restarts(mind: MindUnderTest) -> None:
    """An engine that is lost in the middle of a thought and comes back costs time, not the thought."""
    await mind.begin(engine=False)
    first = await mind.start_engine("inference-1")
    mind.start_kernel("kernel-1")
    await mind.ready("kernel-1")
    await mind.wait(GENESIS_MISSION_ID)
    mind.engine.gate.clear()
    mission_id = await mind.submit()
    await mind.until(lambda: mission_id in mind.engine.missions(), "the mission to begin")
    await first.close()
    mind.engine.gate.set()
    await mind.start_engine("inference-1")
    status = await mind.wait(mission_id)
    assert (status.state, status.epoch) == ("COMPLETE", 1), status.error


async def test_mission_that_kills_kernels_is_given_up(mind: MindUnderTest) -> None:
    """A mission whose kernels are lost again and again ends with an error that says so."""
    mission_id = await begun(mind, other=False)
    mind.end("kernel-1")
    mind.start_kernel("kernel-2", BATOS_KERNEL_MAX_ADOPTIONS="1")
    await mind.ready("kernel-2")
    asked = len(mind.engine.asked)
    await mind.until(lambda: len(mind.engine.asked) > asked, "the mission to be started again")
    mind.end("kernel-2")
    mind.start_kernel("kernel-3", BATOS_KERNEL_MAX_ADOPTIONS="1")
    await mind.ready("kernel-3")
    status = await mind.wait(mission_id)
    assert status.state == "FAILED"
    assert "2 kernels were lost" in status.error
    await mind.until(
        lambda: any(
            record["final_outcome"] == "FAILED" and record["mission_id"] == mission_id for record in mind.records()
        ),
        "the outcome to be logged",
    )
    assert json.dumps(mind.records())


async def test_kernel_that_never_awoke_ends_at_once(mind: MindUnderTest) -> None:
    """A kernel that waits for an image that is not there says so, and ends in order when it is told to."""
    mind.bus.start()
    mind.uri = mind.uri.replace("wait_timeout=20", "wait_timeout=2")
    process = mind.start_kernel("kernel-1")
    await mind.until(
        lambda: "the image does not answer" in mind.outputs["kernel-1"].read_text(), "the kernel to say what it misses"
    )
    assert process.poll() is None
    assert await mind.end_gently("kernel-1", 8) == 0
