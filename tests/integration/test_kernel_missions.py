"""Missions through real kernels on a real image and a real bus; the engine answers by script."""

from __future__ import annotations

import asyncio

import pytest
from integration.kernel_fixtures import ANSWER, MindUnderTest

from batos.kernel.chain import verify_folder
from batos.kernel.genesis import GENESIS_MISSION_ID
from batos.protocol import (
    LogChunk,
    LogRead,
    MissionAccepted,
    MissionEnded,
    MissionList,
    Missions,
    MissionStatus,
    MissionSubmit,
    MissionWait,
    PersonaGet,
    PersonaView,
    RemoteError,
    RequestFailed,
    RequestTimeout,
    StateEntered,
    new_id,
)

pytestmark = pytest.mark.timeout(180)


async def test_mission_is_answered(mind: MindUnderTest) -> None:
    """A mission is made durable, thought about, and answered with all that its status promises."""
    await mind.begin()
    mind.start_kernel()
    await mind.ready("kernel-1")
    async with mind.client.subscribe("mission/") as events:
        mission_id = await mind.submit()
        status = await mind.wait(mission_id)
        told = []
        async with asyncio.timeout(20):
            async for event in events:
                told.append(event)
                if isinstance(event, MissionEnded) and event.status.mission_id == mission_id:
                    break
    assert status.state == "COMPLETE", status.error
    assert status.answer == ANSWER
    assert (status.weaver, status.model, status.kernel, status.epoch) == ("ROBIN", "words", "kernel-1", 1)
    assert len(status.tid) == 16
    assert status.usage.completion_tokens > 0
    assert told[-1].status == status
    assert "SYNTHESIZING" in [event.state for event in told if isinstance(event, StateEntered)]
    with mind.image.at(status.tid) as root:
        assert root["missions"].shards[int(mission_id[-2:], 16) % 64][mission_id].answer == ANSWER


async def test_same_id_is_one_mission(mind: MindUnderTest) -> None:
    """A mission that is submitted again, at whatever kernel, is one mission; its id cannot stand for another text."""
    await mind.begin()
    mind.start_kernel("kernel-1")
    mind.start_kernel("kernel-2")
    await mind.ready("kernel-1", "kernel-2")
    ids = [new_id() for _ in range(5)]
    replies = await asyncio.gather(
        *(
            mind.client.request(
                "kernel", MissionSubmit(mission_id=mission_id, text="Name a boat."), MissionAccepted, timeout_s=30
            )
            for mission_id in ids
            for _ in range(6)
        )
    )
    assert sum(not reply.duplicate for reply in replies) == 5
    for mission_id in ids:
        status = await mind.wait(mission_id)
        assert (status.state, status.epoch) == ("COMPLETE", 1)
    asked = [prompt for prompt in mind.engine.asked if prompt.label.mission_id == ids[0]]
    assert len(asked) == len({prompt.label.step for prompt in asked}) == 4
    with pytest.raises(RemoteError) as taken:
        await mind.submit("Something else.", mission_id=ids[0])
    assert taken.value.code == "mission_id_taken"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"text": "  \n "}, "mission_empty"),
        ({"text": "x" * 1_000_000}, "mission_too_large"),
        ({"weaver": "JOKER"}, "persona_unknown"),
        ({"mission_id": "no id"}, "mission_id_invalid"),
        ({"mission_id": "A" * 32}, "mission_id_invalid"),
    ],
)
def test_bad_input(fault: dict[str, str], code: str) -> None:
    """What cannot be a mission is refused with a code, what is wrong, and what to do."""
    from batos.kernel.intake import checked

    given = {"mission_id": new_id(), "text": "Name a boat."} | fault
    with pytest.raises(RequestFailed) as refused:
        checked(MissionSubmit(**given), most_bytes=65536)
    assert refused.value.code == code
    assert refused.value.hint
    assert not refused.value.transient


async def test_what_a_kernel_answers(mind: MindUnderTest) -> None:
    """Missions, personas, log and figures can be asked for; what is not there is refused by name."""
    await mind.begin()
    mind.start_kernel()
    await mind.ready("kernel-1")
    first, second = await mind.submit("Name a boat.", weaver="brick"), await mind.submit()
    assert (await mind.wait(first)).weaver == "BRICK"
    await mind.wait(second)
    await mind.wait(GENESIS_MISSION_ID)
    listed = await mind.client.request("kernel", MissionList(limit=2), Missions, timeout_s=10)
    assert [status.mission_id for status in listed.missions] == [second, first]
    every = await mind.client.request("kernel", MissionList(limit=50), Missions, timeout_s=10)
    assert every.missions[-1].author == "genesis"
    brick = await mind.client.request("kernel", PersonaGet(persona="brick"), PersonaView, timeout_s=10)
    assert brick.name == "BRICK"
    assert brick.dna["version"] == 1
    assert len(brick.pillars) == 3
    for body, reply, code in (
        (PersonaGet(persona="joker"), PersonaView, "persona_unknown"),
        (MissionWait(mission_id=new_id()), MissionStatus, "mission_unknown"),
        (MissionWait(mission_id="?"), MissionStatus, "mission_id_invalid"),
        (MissionSubmit(mission_id=new_id(), text=" "), MissionAccepted, "mission_empty"),
    ):
        with pytest.raises(RemoteError) as unknown:
            await mind.client.request("kernel", body, reply, timeout_s=10)
        assert unknown.value.code == code
    code, page = await mind.page("kernel-1", "/metrics")
    assert code == 200
    assert 'batos_kernel_missions_total{outcome="COMPLETE"} 3.0' in page
    assert "batos_kernel_log_records_total" in page


async def test_log_is_read_over_the_bus(mind: MindUnderTest) -> None:
    """A kernel gives out its log, whole lines at a time, segments of earlier incarnations among it."""
    await mind.begin()
    mind.start_kernel()
    await mind.ready("kernel-1")
    first = await mind.wait(await mind.submit())
    assert await mind.end_gently("kernel-1") == 0
    mind.start_kernel()
    await mind.ready("kernel-1")
    second = await mind.wait(await mind.submit())
    segment, offset, data = "", 0, b""
    while second.cycle_id.encode() not in data or b"FINAL_OUTCOME" not in data.rpartition(second.cycle_id.encode())[0]:
        chunk = await mind.client.request(
            "kernel/kernel-1", LogRead(segment=segment, offset=offset, limit=3000), LogChunk, timeout_s=10
        )
        assert chunk.data.endswith(b"\n") or not chunk.data
        data += chunk.data
        segment, offset = (chunk.next_segment, 0) if chunk.next_segment else (chunk.segment, chunk.next_offset)
    assert first.cycle_id.encode() in data
    with pytest.raises(RemoteError) as unknown:
        await mind.client.request("kernel/kernel-1", LogRead(segment="else"), LogChunk, timeout_s=10)
    assert unknown.value.code == "segment_unknown"


async def test_kernel_waits_for_its_engine(mind: MindUnderTest) -> None:
    """A kernel without an engine is alive and not ready, and says why; it is ready once a probe is answered."""
    await mind.begin(engine=False)
    mind.start_kernel(BATOS_KERNEL_PROBE_TIMEOUT_S="1")

    async def said() -> tuple[int, str]:
        return await mind.page("kernel-1", "/readyz") if await mind.roster("kernel") else (0, "")

    for _ in range(400):
        code, reason = await said()
        if "engine does not answer" in reason:
            break
        await asyncio.sleep(0.05)
    else:
        pytest.fail(f"{reason}\n{mind.said()}")
    assert code == 503
    assert (await mind.page("kernel-1", "/healthz"))[0] == 200
    await mind.start_engine()
    await mind.ready("kernel-1")
    assert await mind.page("kernel-1", "/readyz") == (200, "ready\n")
    assert not [prompt for prompt in mind.engine.asked if prompt.probe]


async def test_lost_engine_fails_the_mission_clearly(mind: MindUnderTest) -> None:
    """An engine that does not come back within the deadline ends the mission, and the mission says so."""
    await mind.begin()
    mind.start_kernel(BATOS_KERNEL_INFER_TIMEOUT_S="2")
    await mind.ready("kernel-1")
    await mind.wait(GENESIS_MISSION_ID)
    mind.engine.gate.clear()
    status = await mind.wait(await mind.submit())
    assert (status.state, status.tid, status.answer) == ("FAILED", "", "")
    assert "no answer to Infer from service 'inference' within" in status.error
    mind.engine.gate.set()
    mind.engine.refusal = RequestFailed("adapter_unknown", "no such adapter", "load it")
    refused = await mind.wait(await mind.submit())
    assert refused.state == "FAILED"
    assert "no such adapter" in refused.error


async def test_genesis_runs_once(mind: MindUnderTest) -> None:
    """Two kernels that awaken at once make one genesis mission, which runs once, also after restarts."""
    await mind.begin()
    mind.start_kernel("kernel-1")
    mind.start_kernel("kernel-2")
    await mind.ready("kernel-1", "kernel-2")
    status = await mind.wait(GENESIS_MISSION_ID)
    assert (status.state, status.author, status.weaver, status.epoch) == ("COMPLETE", "genesis", "ALFRED", 1)
    asked = len(mind.engine.asked)
    assert await mind.end_gently("kernel-1") == 0
    mind.end("kernel-2")
    mind.start_kernel("kernel-1")
    await mind.ready("kernel-1")
    await mind.wait(await mind.submit())
    again = await mind.wait(GENESIS_MISSION_ID)
    assert again == status
    assert len([prompt for prompt in mind.engine.asked[asked:] if prompt.label.mission_id == GENESIS_MISSION_ID]) == 0

    def outcomes() -> int:
        mine = [record for record in mind.records() if record["mission_id"] == GENESIS_MISSION_ID]
        return len([record for record in mine if record["event_type"] == "FINAL_OUTCOME"])

    await mind.until(outcomes, "its outcome to be logged")
    assert outcomes() == 1


async def test_genesis_gives_way(mind: MindUnderTest) -> None:
    """Where every place is taken, genesis is put back for a mission that waits, and runs afterwards."""
    await mind.begin()
    mind.engine.gate.clear()
    mind.start_kernel(BATOS_KERNEL_SLOTS="1")
    await mind.ready("kernel-1")
    await mind.until(lambda: GENESIS_MISSION_ID in mind.engine.missions(), "genesis to begin")
    mission_id = await mind.submit()
    await mind.until(lambda: mission_id in mind.engine.missions(), "the mission to have the place")
    assert mind.engine.cancelled
    mind.engine.gate.set()
    assert (await mind.wait(mission_id)).epoch == 1
    genesis = await mind.wait(GENESIS_MISSION_ID)
    assert genesis.state == "COMPLETE"
    assert genesis.epoch > 1


async def test_more_missions_than_places(mind: MindUnderTest) -> None:
    """Missions that find no place wait in the image and are run by whichever kernel has one."""
    await mind.begin()
    mind.start_kernel("kernel-1", BATOS_KERNEL_SLOTS="2")
    mind.start_kernel("kernel-2", BATOS_KERNEL_SLOTS="2")
    await mind.ready("kernel-1", "kernel-2")
    ids = [await mind.submit(f"Name boat {count}.") for count in range(20)]
    found = await asyncio.gather(*(mind.wait(mission_id) for mission_id in ids))
    assert {status.state for status in found} == {"COMPLETE"}
    assert {status.epoch for status in found} == {1}
    assert {status.kernel for status in found} == {"kernel-1", "kernel-2"}


async def test_drain_finishes_what_runs(mind: MindUnderTest) -> None:
    """A kernel that drains finishes its cycles, sends those that wait to another, and exits 0."""
    await mind.begin()
    mind.start_kernel("kernel-1")
    await mind.ready("kernel-1")
    await mind.wait(GENESIS_MISSION_ID)
    mind.engine.gate.clear()
    mission_id = await mind.submit()
    await mind.until(lambda: mission_id in mind.engine.missions(), "the mission to begin")
    waiting = asyncio.create_task(mind.wait(mission_id))
    mind.start_kernel("kernel-2")
    await mind.ready("kernel-2")
    ending = asyncio.create_task(mind.end_gently("kernel-1"))
    for _ in range(400):
        if all(card.draining for card in await mind.roster("kernel") if card.name == "kernel-1"):
            break
        await asyncio.sleep(0.05)
    later = await mind.submit("Another boat.")
    mind.engine.gate.set()
    assert await ending == 0
    assert (await waiting).kernel == "kernel-1"
    assert (await mind.wait(later)).kernel == "kernel-2"


async def test_expired_drain_gives_back(mind: MindUnderTest) -> None:
    """What a drain has no time for goes back to the others, who start it again at once under the same cycle."""
    await mind.begin()
    mind.start_kernel("kernel-1", BATOS_DRAIN_TIMEOUT_S="0.5")
    await mind.ready("kernel-1")
    await mind.wait(GENESIS_MISSION_ID)
    mind.engine.gate.clear()
    mission_id = await mind.submit()
    await mind.until(lambda: mission_id in mind.engine.missions(), "the mission to begin")
    cycle = mind.engine.asked[-1].label.cycle_id
    mind.start_kernel("kernel-2", BATOS_KERNEL_ADOPT_AFTER_S="600")
    await mind.ready("kernel-2")
    assert await mind.end_gently("kernel-1") == 0
    mind.engine.gate.set()
    status = await mind.wait(mission_id)
    assert (status.state, status.kernel, status.cycle_id) == ("COMPLETE", "kernel-2", cycle)

    def ends() -> list[str]:
        mine = [record for record in mind.records() if record["mission_id"] == mission_id]
        return [record["final_outcome"] for record in mine if record["event_type"] == "FINAL_OUTCOME"]

    await mind.until(ends, "the outcome to be logged")
    assert ends() == ["COMPLETE"]


async def test_two_incarnations_of_one_name(mind: MindUnderTest) -> None:
    """During a roll old and new kernel of one name log side by side, and the whole log holds together."""
    await mind.begin()
    mind.start_kernel("kernel-1")
    await mind.ready("kernel-1")
    await mind.wait(GENESIS_MISSION_ID)
    mind.engine.gate.clear()
    before = await mind.submit()
    await mind.until(lambda: before in mind.engine.missions(), "the mission to begin")
    mind.start_kernel("kernel-1", label="successor")
    await mind.ready("kernel-1", "successor")
    ending = asyncio.create_task(mind.end_gently("kernel-1"))
    for _ in range(400):
        if any(card.draining for card in await mind.roster("kernel")):
            break
        await asyncio.sleep(0.05)
    after = await mind.submit("Another boat.")
    mind.engine.gate.set()
    assert {(await mind.wait(before)).state, (await mind.wait(after)).state} == {"COMPLETE"}
    assert await ending == 0
    assert await mind.end_gently("successor") == 0
    report = verify_folder(mind.log / "kernel-1")
    assert report.sound, report.faults
    assert report.incarnations == 2


async def test_nobody_answers_without_a_kernel(mind: MindUnderTest) -> None:
    """Without a kernel a mission is not acknowledged; the error names what was waited for."""
    await mind.begin()
    with pytest.raises(RequestTimeout) as missing:
        await mind.client.request(
            "kernel", MissionSubmit(mission_id=new_id(), text="Name a boat."), MissionAccepted, timeout_s=1
        )
    assert "kernel" in str(missing.value)


async def test_wrong_settings_end_at_once(mind: MindUnderTest) -> None:
    """A setting out of bounds or unknown ends the process with code 2 and one clear line."""
    process = mind.start_kernel(BATOS_KERNEL_SLOTS="0")
    assert await asyncio.to_thread(process.wait, 30) == 2
    assert "BATOS_KERNEL_SLOTS" in mind.outputs["kernel-1"].read_text()
    process = mind.start_kernel("kernel-2", BATOS_KERNEL_SLOT="2")
    assert await asyncio.to_thread(process.wait, 30) == 2
    assert "BATOS_KERNEL_SLOTS" in mind.outputs["kernel-2"].read_text()
