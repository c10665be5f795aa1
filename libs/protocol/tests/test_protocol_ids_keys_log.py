from __future__ import annotations

import json
import os
import stat
import time
import uuid
from pathlib import Path

import msgspec
import pytest
import zmq

from batos.protocol import (
    BadKey,
    BusUnreachable,
    EventType,
    KeyRing,
    LogRecord,
    ProtocolError,
    RequestTimeout,
    encode_record,
    new_id,
    record_schema,
)


def test_ids_are_uuids_of_version_7_and_of_this_millisecond() -> None:
    """An id is a UUIDv7 of RFC 9562 without its dashes, and tells when it was made."""
    before = time.time_ns() // 1_000_000
    made = new_id()
    after = time.time_ns() // 1_000_000
    parsed = uuid.UUID(made)
    assert parsed.hex == made
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    assert before <= parsed.int >> 80 <= after


def test_ids_are_unique_and_sort_by_time() -> None:
    """Ids made one after another differ, and those of different microseconds are in order."""
    made = []
    for _ in range(2_000):
        made.append(new_id())
        until = time.time_ns() + 1_000
        while time.time_ns() < until:
            continue
    assert len(set(made)) == len(made)
    assert made == sorted(made)


def test_a_key_pair_is_made_once_and_kept(tmp_path: Path) -> None:
    """The second start of a vessel finds the keys of the first, and they belong together."""
    ring = KeyRing(tmp_path / "keys")
    first = ring.ensure("kernel-1")
    assert KeyRing(tmp_path / "keys").ensure("kernel-1") == first
    assert zmq.curve_public(first.secret.encode()) == first.public.encode()
    assert ring.ensure("kernel-2") != first
    assert ring.known() == {first.public, ring.ensure("kernel-2").public}


def test_provided_keys_are_only_read(tmp_path: Path) -> None:
    """Nothing is made, and no mode is changed: the folder may be another user's, or not writable."""
    made = KeyRing(tmp_path).ensure("kernel")
    (tmp_path / "kernel.public").unlink()
    (tmp_path / "kernel.secret").chmod(0o440)
    tmp_path.chmod(0o750)
    assert KeyRing(tmp_path, provided=True).ensure("kernel") == made
    assert [path.name for path in tmp_path.iterdir()] == ["kernel.secret"]
    assert stat.S_IMODE((tmp_path / "kernel.secret").stat().st_mode) == 0o440
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750


def test_a_provided_key_that_is_missing_says_what_to_do(tmp_path: Path) -> None:
    """Which file, the command that makes it, and that it has to be mounted."""
    ring = KeyRing(tmp_path / "nowhere", provided=True)
    for ask in (lambda: ring.ensure("kernel"), lambda: ring.public("bus")):
        with pytest.raises(BadKey, match=r"No such file.*batos keys make.*mount") as caught:
            ask()
        assert caught.value.code == "key_missing"
    assert not (tmp_path / "nowhere").exists()


def test_a_provided_secret_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    """Whoever can read it can be that vessel."""
    KeyRing(tmp_path).ensure("kernel")
    (tmp_path / "kernel.secret").chmod(0o644)
    with pytest.raises(BadKey, match="can be read by everybody"):
        KeyRing(tmp_path, provided=True).ensure("kernel")


def test_keys_are_their_owners_only(tmp_path: Path) -> None:
    """The folder is 0700 and the files are 0600, whatever they were before, and nothing else lies there."""
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o755)
    KeyRing(folder).ensure("bus")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {
        "bus.secret": 0o600,
        "bus.public": 0o600,
    }
    (folder / "bus.secret").chmod(0o644)
    KeyRing(folder).ensure("bus")
    assert stat.S_IMODE((folder / "bus.secret").stat().st_mode) == 0o600


def test_the_secret_is_not_shown(tmp_path: Path) -> None:
    """A key pair in a log line shows its public half only."""
    pair = KeyRing(tmp_path).ensure("bus")
    assert pair.secret not in repr(pair)
    assert pair.public in repr(pair)


@pytest.mark.parametrize("name", ["", "../bus", "a/b", ".hidden", "x" * 65, "a b"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    """No key is ever written outside its folder."""
    with pytest.raises(BadKey):
        KeyRing(tmp_path).ensure(name)


@pytest.mark.parametrize("content", ["", "short", "x" * 41, "\x7f" * 40, "ä" * 40])
def test_a_file_that_holds_no_key_is_said(tmp_path: Path, content: str) -> None:
    """A damaged secret is an error that names the file; a damaged public file admits nobody."""
    ring = KeyRing(tmp_path)
    ring.ensure("bus")
    (tmp_path / "bus.secret").write_text(content, encoding="utf-8")
    (tmp_path / "other.public").write_text(content, encoding="utf-8")
    with pytest.raises(BadKey, match=r"bus\.secret"):
        ring.ensure("bus")
    assert len(ring.known()) == 1


def test_a_public_key_of_another_secret_is_said(tmp_path: Path) -> None:
    """A pair whose halves do not belong together is an error."""
    ring = KeyRing(tmp_path)
    ring.ensure("a")
    ring.ensure("b")
    os.replace(tmp_path / "b.public", tmp_path / "a.public")  # noqa: PTH105
    with pytest.raises(BadKey, match="does not belong"):
        ring.ensure("a")


def test_errors_say_what_to_do() -> None:
    """A timeout names service, request and seconds, and the last answer where there was one."""
    last = ProtocolError("worker_lost", "kernel-1 was lost")
    error = RequestTimeout("kernel", "MissionSubmit", 2.5, last)
    assert "MissionSubmit" in str(error)
    assert "'kernel'" in str(error)
    assert "2.5 s" in str(error)
    assert "worker_lost: kernel-1 was lost" in str(error)
    assert isinstance(BusUnreachable("kernel", "Ping", 1.0), RequestTimeout)
    assert BusUnreachable("kernel", "Ping", 1.0).code == "bus_unreachable"


def test_log_records_are_lines_of_json_that_follow_their_schema() -> None:
    """A record is one line, comes back as it was, and has exactly the fields that the schema names."""
    record = LogRecord(
        timestamp="2026-01-01T00:00:00.000Z",
        seq=1,
        prev_hash="0" * 64,
        event_type=EventType.LLM_RESPONSE,
        llm_response_raw="two\nlines",
    )
    line = encode_record(record)
    assert b"\n" not in line
    assert msgspec.json.decode(line, type=LogRecord) == record
    schema = record_schema()
    described = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    assert list(described["properties"]) == list(json.loads(line))
    assert set(described["required"]) == {"timestamp", "seq", "prev_hash", "event_type"}
