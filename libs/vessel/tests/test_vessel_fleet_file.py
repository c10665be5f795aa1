"""fleet.json and the keeper's lock."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batos.protocol import BusAddresses
from batos.vessel import FleetFile, FleetLock, FleetNotFound, FleetPlace, FleetRunning, VesselError, keeper_pid

BUS = BusAddresses("tcp://a:1", "tcp://a:2", "tcp://a:3", "tcp://a:4", "k" * 40)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    """A fleet file reads back as it was written, is its owner's only, and leaves nothing beside it."""
    fleet = FleetFile(bus=BUS, image_uri="zeo:///s", keeper_pid=7, places=(FleetPlace(name="bus", kind="bus"),))
    fleet.save(tmp_path / "home")
    fleet.save(tmp_path / "home")
    assert FleetFile.load(tmp_path / "home") == fleet
    assert (tmp_path / "home" / "fleet.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["fleet.json"]


def test_no_file_says_how_to_start(tmp_path: Path) -> None:
    """Where no fleet was ever started the error says so and names the command."""
    with pytest.raises(FleetNotFound, match="batos up"):
        FleetFile.load(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"{}", b'{"bus": 1, "image_uri": ""}', b"\xff"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """A file that is no fleet file is an error that names it."""
    (tmp_path / "fleet.json").write_bytes(content)
    with pytest.raises(VesselError, match=r"fleet\.json is no fleet file"):
        FleetFile.load(tmp_path)


def test_newer_fields_are_no_error(tmp_path: Path) -> None:
    """A file with fields of a later release can still be read."""
    FleetFile(bus=BUS, image_uri="zeo:///s").save(tmp_path)
    path = tmp_path / "fleet.json"
    path.write_text(path.read_text().replace('"version"', '"later": 1,\n  "version"'))
    assert FleetFile.load(tmp_path).bus == BUS


def test_one_keeper_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one is refused and told who is there; afterwards the home is free."""
    monkeypatch.setattr("batos.vessel.fleet.LOCK_PAUSE_S", 0.0)
    assert keeper_pid(tmp_path) is None
    with FleetLock(tmp_path):
        assert keeper_pid(tmp_path) == os.getpid()
        with pytest.raises(FleetRunning) as caught, FleetLock(tmp_path):
            pass
        assert caught.value.pid == os.getpid()
        assert "batos down" in str(caught.value)
        with FleetLock(tmp_path / "other"):
            assert keeper_pid(tmp_path / "other") == os.getpid()
    assert keeper_pid(tmp_path) is None
    with FleetLock(tmp_path):
        pass
