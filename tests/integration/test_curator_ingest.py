"""The curator over a real bus and a real ZEO server: logs into memory exactly once, memory into data sets."""

from __future__ import annotations

import json

import pytest
from integration.bus_fixtures import Peers, make_card
from integration.forge_fixtures import ScriptedLog, Workshop, log_server, ready

from batos.mind import datasets, log_memory
from batos.protocol import Curate, DatasetBuilt, EventType, LogRecord, Progress, RemoteError, Roster, RosterGet, new_id

FEW = {"curator_interval_s": "3600", "curator_chunk_bytes": "10000", "curator_read_timeout_s": "5"}


def memory(workshop: Workshop) -> list[LogRecord]:
    with workshop.image.snapshot() as root:
        return list(log_memory.every_record(root))


async def test_a_data_set_out_of_two_kernels_logs(workshop: Workshop, peers: Peers) -> None:
    """Records of both kernels are in memory once; the data set holds BRICK's answers of COMPLETE cycles only."""
    one, two = ScriptedLog("kernel-1", "a" * 32), ScriptedLog("kernel-2", "b" * 32)
    for number in range(12):
        one.cycle(number)
    one.rotate()
    one.cycle(12, outcome="FAILED")
    for number in range(20, 26):
        two.cycle(number)
    two.cycle(30, persona="ROBIN")
    asker = await peers.join(make_card("console-1", kind="console"))
    async with log_server(peers, one), log_server(peers, two):
        workshop.start("batos.curator", "curator", **FEW)
        await ready(asker, "curator", workshop)
        request_id = new_id()
        async with asker.subscribe(f"progress/curate/{request_id}") as events:
            built = await asker.request(
                "curator", Curate(persona="brick", request_id=request_id), DatasetBuilt, timeout_s=60
            )
            stages = []
            async for event in events:
                assert isinstance(event, Progress)
                stages.append(event.stage)
                if event.stage == "done":
                    break
        assert stages[-2:] == ["writing", "done"]
        assert built.dataset_id == request_id
        assert (built.persona, built.rows) == ("BRICK", 18)
        assert built.train_rows + built.held_out_rows == 18
        assert built.held_out_rows >= 2
        records = memory(workshop)
        assert {(found.incarnation, found.seq) for found in records} == {
            *(("a" * 32, seq) for seq in range(39)),
            *(("b" * 32, seq) for seq in range(21)),
        }
        assert len(records) == 60

        folder = workshop.home / built.path
        rows = [
            json.loads(line)
            for name in ("train.jsonl", "held_out.jsonl")
            for line in (folder / name).read_text().splitlines()
        ]
        assert len(rows) == 18
        assert all([turn["role"] for turn in row["messages"]] == ["system", "user", "assistant"] for row in rows)
        manifest = json.loads((folder / "manifest.json").read_text())
        assert {row["cycle_id"] for row in rows} == {origin["cycle_id"] for origin in manifest["rows"]}
        assert manifest["counts"]["answers"] == 18
        with workshop.image.snapshot() as root:
            assert datasets.get(root, built.dataset_id).sha256 == built.sha256

        again = await asker.request(
            "curator", Curate(persona="brick", request_id=request_id), DatasetBuilt, timeout_s=60
        )
        assert again == built


async def test_a_killed_curator_repeats_nothing(workshop: Workshop, peers: Peers) -> None:
    """Records written while the curator is dead are taken in by its successor; none is there twice."""
    log = ScriptedLog("kernel-1", "a" * 32)
    asker = await peers.join(make_card("console-1", kind="console"))
    async with log_server(peers, log):
        for number in range(9):
            log.cycle(number)
        process = workshop.start("batos.curator", "curator", **FEW)
        await ready(asker, "curator", workshop)
        await asker.request("curator", Curate(persona="BRICK", request_id=new_id()), DatasetBuilt, timeout_s=60)
        process.kill()
        process.wait(20)
        for number in range(9, 15):
            log.cycle(number)
        workshop.start("batos.curator", "curator", **FEW)
        built = await asker.request("curator", Curate(persona="BRICK", request_id=new_id()), DatasetBuilt, timeout_s=60)
        assert built.rows == 15
        assert [found.seq for found in memory(workshop)] == list(range(45))


async def test_a_log_that_begins_anew_is_read_from_its_beginning(workshop: Workshop, peers: Peers) -> None:
    """A kernel whose files are new ones is read from the start; a line that is no record hides no other."""
    old, new = ScriptedLog("kernel-1", "a" * 32), ScriptedLog("kernel-1", "b" * 32)
    for number in range(9):
        old.cycle(number)
    asker = await peers.join(make_card("console-1", kind="console"))
    workshop.start("batos.curator", "curator", **FEW)
    await ready(asker, "curator", workshop)
    async with log_server(peers, old):
        await asker.request("curator", Curate(persona="BRICK", request_id=new_id()), DatasetBuilt, timeout_s=60)
    new.segments = {"another.jsonl": b"{this is no record\n"}
    for number in range(9, 13):
        new.cycle(number)
    async with log_server(peers, new):
        built = await asker.request("curator", Curate(persona="BRICK", request_id=new_id()), DatasetBuilt, timeout_s=60)
    assert built.rows == 13
    assert len(memory(workshop)) == 39


async def test_logs_are_read_in_the_background(workshop: Workshop, peers: Peers) -> None:
    """Without being asked, the curator takes in what is new."""
    log = ScriptedLog("kernel-1", "a" * 32)
    log.write(EventType.VESSEL)
    asker = await peers.join(make_card("console-1", kind="console"))
    async with log_server(peers, log):
        workshop.start("batos.curator", "curator", **(FEW | {"curator_interval_s": "0.1"}))
        await ready(asker, "curator", workshop)
        for number in range(3):
            log.cycle(number)
            while len(memory(workshop)) < log.seq:
                await asker.request("bus", RosterGet(), Roster, timeout_s=10)
    assert [found.seq for found in memory(workshop)] == list(range(10))


@pytest.mark.parametrize(
    ("body", "code", "word"),
    [
        (Curate(persona="joker", request_id="0" * 32), "persona_unknown", "joker"),
        (Curate(persona="brick", request_id="../.."), "request_id_invalid", "new_id"),
        (Curate(persona="brick", request_id="1" * 32), "dataset_too_small", "more missions"),
    ],
    ids=["persona", "id", "too small"],
)
async def test_what_cannot_be_curated_is_refused(
    workshop: Workshop, peers: Peers, body: Curate, code: str, word: str
) -> None:
    """An unknown persona, a malformed id and too little to learn from each give one clear error."""
    log = ScriptedLog("kernel-1", "a" * 32)
    log.cycle(0)
    asker = await peers.join(make_card("console-1", kind="console"))
    async with log_server(peers, log):
        workshop.start("batos.curator", "curator", **FEW)
        await ready(asker, "curator", workshop)
        with pytest.raises(RemoteError, match=word) as refused:
            await asker.request("curator", body, DatasetBuilt, timeout_s=60)
    assert refused.value.code == code
