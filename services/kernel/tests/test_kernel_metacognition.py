"""The metacognition log: durable, chained, readable piece by piece."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiologger.records import LogRecord as Entry

from batos.kernel.chain import verify_folder, verify_lines
from batos.kernel.errors import KernelError
from batos.kernel.log_writer import NO_HASH, LogClosed, LogWriter
from batos.kernel.metacognition import Metacognition
from batos.kernel.redaction import Redactor
from batos.kernel.segments import CURRENT, SegmentFolder, lines
from batos.protocol import EventType, new_id

Open = Callable[..., Metacognition]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    logs: list[Metacognition] = []

    def open_log(segment_bytes: int = 1_000_000) -> Metacognition:
        log = Metacognition(
            tmp_path,
            kernel="kernel-1",
            incarnation=new_id(),
            redactor=Redactor(b"k" * 32),
            segment_bytes=segment_bytes,
            on_record=lambda _: None,
            on_fault=lambda _: None,
        )
        logs.append(log)
        return log

    yield open_log
    for log in logs:
        asyncio.run(log.close())


def durable(log: Metacognition) -> None:
    done = threading.Event()
    log.when_durable(done.set)
    assert done.wait(10)


def test_records_are_lines_in_order(tmp_path: Path, opened: Open) -> None:
    """Each record is a line with all fields in the contract's order, numbered from 0 and chained."""
    log = opened()
    log.record(EventType.VESSEL, detail={"what": "awake"})
    log.record(EventType.LLM_PROMPT, cycle_id="c" * 32, llm_prompt='[{"role":"user","content":"hi"}]')
    durable(log)
    found = [json.loads(line) for line in (tmp_path / CURRENT).read_text().splitlines()]
    assert [record["seq"] for record in found] == [0, 1]
    assert found[0]["prev_hash"] == NO_HASH
    assert list(found[0])[:4] == ["timestamp", "seq", "prev_hash", "event_type"]
    assert found[1]["llm_prompt"] == '[{"role":"user","content":"hi"}]'
    assert found[1]["kernel"] == "kernel-1"
    assert verify_folder(tmp_path).sound


def test_many_threads_lose_nothing(tmp_path: Path, opened: Open) -> None:
    """Records of many threads are all there, each once, and rotation keeps the chain."""
    log = opened(segment_bytes=20_000)

    def write(which: int) -> None:
        for count in range(100):
            log.record(EventType.STATE_TRANSITION, detail={"thread": which, "count": count})

    threads = [threading.Thread(target=write, args=(which,)) for which in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    durable(log)
    report = verify_folder(tmp_path)
    assert report.sound, report.faults
    assert report.records == 800
    assert len(SegmentFolder(tmp_path).paths()) > 3


async def test_aiologger_interface(tmp_path: Path, opened: Open) -> None:
    """A record that is logged through aiologger's own calls is the same line."""
    log = opened()
    await log.logger.info(log.made(EventType.VESSEL, detail={"what": "by aiologger"}))
    await log.logger.handlers[0].flush()
    assert json.loads((tmp_path / CURRENT).read_text())["detail"] == {"what": "by aiologger"}
    await log.logger.handle(Entry(name="x", level=20, pathname="", lineno=0, msg=log.made(EventType.VESSEL)))
    await log.close()
    assert verify_folder(tmp_path).records == 2


async def test_close_writes_the_rest(tmp_path: Path, opened: Open) -> None:
    """Closing straight after logging loses nothing, and later records are refused."""
    log = opened()
    for _ in range(2000):
        log.record(EventType.VESSEL)
    await log.close()
    assert verify_folder(tmp_path).records == 2000
    with pytest.raises(LogClosed):
        log.record(EventType.VESSEL)


def test_secrets_do_not_reach_the_file(tmp_path: Path, opened: Open) -> None:
    """Prompts, answers and details are written without secrets."""
    log = opened()
    secret = "sk-" + "abcdefghijklmnop1234"
    log.record(
        EventType.LLM_RESPONSE,
        llm_prompt=json.dumps([{"role": "user", "content": secret}]),
        llm_response_raw=secret,
        detail={"deep": [secret]},
    )
    durable(log)
    assert secret not in (tmp_path / CURRENT).read_text()


async def test_successor_is_anchored(tmp_path: Path, opened: Open) -> None:
    """A new incarnation begins a file of its own, anchored to its predecessor's last line."""
    first = opened()
    first.record(EventType.VESSEL)
    await first.close()
    second = opened()
    second.record(EventType.VESSEL)
    durable(second)
    segments = SegmentFolder(tmp_path).paths()
    assert [path.name == CURRENT for _, path in segments] == [False, True]
    report = verify_folder(tmp_path)
    assert report.sound
    assert report.incarnations == 2


def test_two_incarnations_write_apart(tmp_path: Path, opened: Open) -> None:
    """During a roll the old incarnation goes on in its own file while the new one writes the current one."""
    old = opened(segment_bytes=4096)
    old.record(EventType.VESSEL, detail={"who": "old"})
    durable(old)
    new = opened(segment_bytes=4096)
    new.record(EventType.VESSEL, detail={"who": "new"})
    durable(new)
    for _ in range(30):
        old.record(EventType.STATE_TRANSITION, detail={"who": "old"})
        new.record(EventType.STATE_TRANSITION, detail={"who": "new"})
    durable(old)
    durable(new)
    assert verify_folder(tmp_path).sound
    assert verify_folder(tmp_path).records == 62
    for _, path in SegmentFolder(tmp_path).paths():
        assert len({json.loads(line)["incarnation"] for line in lines(path)}) == 1


def test_torn_line_is_cut_and_counted(tmp_path: Path, opened: Open) -> None:
    """What a killed process left of a line is cut by the next one, and the chain goes on from the last whole line."""
    first = opened()
    first.record(EventType.VESSEL)
    asyncio.run(first.close())
    with (tmp_path / CURRENT).open("ab") as file:
        file.write(b'{"timestamp":"20')
    second = opened()
    assert second.torn == 1
    second.record(EventType.VESSEL)
    durable(second)
    report = verify_folder(tmp_path)
    assert report.sound
    assert report.records == 2


def read_all(folder: SegmentFolder, limit: int) -> list[bytes]:
    segment, offset, got = "", 0, []
    for _ in range(10_000):
        chunk = folder.read(segment, offset, limit)
        got.append(chunk.data)
        if chunk.next_segment:
            segment, offset = chunk.next_segment, 0
        elif chunk.next_offset == offset and segment == chunk.segment:
            return got
        else:
            segment, offset = chunk.segment, chunk.next_offset
    raise AssertionError("the log has no end")


@pytest.mark.parametrize("limit", [1, 700, 1_000_000])
def test_log_is_read_piece_by_piece(tmp_path: Path, opened: Open, limit: int) -> None:
    """Reading from the oldest segment on gives every line once, however small the pieces."""
    first = opened(segment_bytes=4096)
    for _ in range(40):
        first.record(EventType.VESSEL)
    asyncio.run(first.close())
    second = opened()
    second.record(EventType.VESSEL)
    durable(second)
    found = b"".join(read_all(SegmentFolder(tmp_path), limit)).splitlines()
    report = verify_lines(found)
    assert report.sound
    assert report.records == 41


def test_open_segment_is_not_left(tmp_path: Path, opened: Open) -> None:
    """A reader is sent to the next segment only once nobody writes the one before any more."""
    old = opened()
    old.record(EventType.VESSEL)
    durable(old)
    new = opened()
    new.record(EventType.VESSEL)
    durable(new)
    folder = SegmentFolder(tmp_path)
    chunk = folder.read("", 0, 1_000_000)
    assert chunk.data
    assert chunk.next_segment == ""
    asyncio.run(old.close())
    assert folder.read(chunk.segment, chunk.next_offset, 1_000_000).next_segment != ""


def test_readers_place_outlives_renaming(tmp_path: Path, opened: Open) -> None:
    """The current segment has on the bus the name that it keeps for good."""
    log = opened(segment_bytes=4096)
    log.record(EventType.VESSEL)
    durable(log)
    folder = SegmentFolder(tmp_path)
    chunk = folder.read("", 0, 1_000_000)
    for _ in range(20):
        log.record(EventType.VESSEL)
        durable(log)
    again = folder.read(chunk.segment, chunk.next_offset, 1_000_000)
    assert again.segment == chunk.segment
    assert again.data
    assert again.next_segment != ""


def test_unknown_places_are_refused(tmp_path: Path, opened: Open) -> None:
    """A segment that is not there and a byte within a line are errors with a code."""
    folder = SegmentFolder(tmp_path)
    assert folder.read("", 0, 100).segment == ""
    log = opened()
    log.record(EventType.VESSEL)
    durable(log)
    with pytest.raises(KernelError) as unknown:
        folder.read("../../etc/passwd", 0, 100)
    assert unknown.value.code == "segment_unknown"
    with pytest.raises(KernelError) as invalid:
        folder.read("", 3, 100)
    assert invalid.value.code == "offset_invalid"


@pytest.mark.parametrize("fault", ["changed", "removed", "doubled", "garbled"])
def test_tampering_is_found(tmp_path: Path, opened: Open, fault: str) -> None:
    """A line that was changed, taken out, put in or made unreadable breaks the chain."""
    log = opened()
    for count in range(5):
        log.record(EventType.VESSEL, detail={"count": count})
    durable(log)
    whole = (tmp_path / CURRENT).read_bytes().splitlines()
    if fault == "changed":
        whole[2] = whole[2].replace(b'"count":2', b'"count":7')
    elif fault == "removed":
        del whole[2]
    elif fault == "doubled":
        whole.insert(2, whole[2])
    else:
        whole[2] = b"???"
    assert not verify_lines(whole).sound


def test_foreign_anchor_is_found(tmp_path: Path, opened: Open) -> None:
    """An incarnation whose predecessor's last lines were taken away is noticed."""
    first = opened()
    first.record(EventType.VESSEL)
    first.record(EventType.VESSEL)
    asyncio.run(first.close())
    second = opened()
    second.record(EventType.VESSEL)
    durable(second)
    whole = [line for _, path in SegmentFolder(tmp_path).paths() for line in lines(path)]
    assert verify_lines(whole).sound
    del whole[1]
    assert not verify_lines(whole).sound


def test_disk_that_refuses_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is told, and what waits is written once there is room."""
    told: list[str] = []
    full = threading.Event()
    full.set()
    write = os.pwrite

    def refusing(descriptor: int, data: bytes, offset: int) -> int:
        if full.is_set():
            raise OSError(28, "No space left on device")
        return write(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", refusing)
    noticed = threading.Event()

    def on_fault(text: str) -> None:
        told.append(text)
        noticed.set()

    writer = LogWriter(tmp_path, new_id(), segment_bytes=10_000, on_fault=on_fault, retry_s=0.01)
    try:
        writer.put(b'{"timestamp":"","seq":0,"prev_hash":"","incarnation":"aa"}')
        assert noticed.wait(10)
        full.clear()
        done = threading.Event()
        writer.when_durable(done.set)
        assert done.wait(10)
    finally:
        writer.close()
    assert "No space left" in told[0]
    assert told[1] == ""
    assert verify_folder(tmp_path).records == 1
    assert writer.lost == 0


def test_removed_file_is_begun_anew(tmp_path: Path, opened: Open) -> None:
    """Where somebody removes the current segment, later records go into a new one."""
    log = opened()
    log.record(EventType.VESSEL)
    durable(log)
    (tmp_path / CURRENT).unlink()
    log.record(EventType.VESSEL)
    durable(log)
    assert len((tmp_path / CURRENT).read_bytes().splitlines()) == 1
