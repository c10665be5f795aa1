"""A vessel's readiness, card and health; the bus and the network have no part in it."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import ClassVar
from unittest.mock import Mock

import pytest

from batos.protocol import Peer, PeerStats
from batos.vessel import Vessel, VesselError, VesselSettings, tethered
from batos.vessel.logs import JsonFormatter, LineFormatter
from batos.vessel.run import say_failure


class Plank(Vessel):
    kind: ClassVar[str] = "plank"
    uses_bus: ClassVar[bool] = False

    async def start(self) -> None:
        self.set_ready(True)


@pytest.fixture
def plank(tmp_path: Path) -> Plank:
    return Plank(VesselSettings(home=tmp_path, name="plank-1"))


async def test_readiness_has_a_reason(plank: Plank) -> None:
    """Not ready until it says so, and why; its metric follows; each change is announced once."""
    announced: list[bool] = []
    peer = Mock(spec=Peer, stats=PeerStats())
    plank.attach(peer, lambda: announced.append(plank.ready))
    assert not plank.card().ready
    assert plank.card().reason == "starting"
    plank.set_ready(False, "waiting for the image")
    assert plank.card().reason == "waiting for the image"
    plank.set_ready(True, "ignored")
    plank.set_ready(True)
    assert plank.card().ready
    assert plank.card().reason == ""
    assert plank.registry.get_sample_value("batos_vessel_ready") == 1.0
    assert announced == [False, True]


async def test_ready_with_a_notice(plank: Plank) -> None:
    """What is wrong although it can do its work stands on its card and page until it is taken back; both are told."""
    announced: list[str] = []
    plank.attach(Mock(spec=Peer, stats=PeerStats()), lambda: announced.append(plank.card().notice))
    plank.set_ready(True)
    plank.set_notice("the disk is full")
    plank.set_notice("the disk is full")
    assert (plank.card().ready, plank.card().reason, plank.card().notice) == (True, "", "the disk is full")
    assert plank.health().reason == "the disk is full"
    plank.set_notice("")
    assert announced == ["", "the disk is full", ""]
    assert plank.health().reason == ""


async def test_draining_is_not_ready(plank: Plank) -> None:
    """Who drains says so and is not ready, whatever it said before."""
    plank.set_ready(True)
    plank.set_draining()
    card = plank.card()
    assert (card.ready, card.reason, card.draining) == (False, "draining", True)
    assert plank.registry.get_sample_value("batos_vessel_ready") == 0.0


async def test_cards_of_two_incarnations_differ(tmp_path: Path) -> None:
    """Each start is an incarnation of its own under the same name."""
    settings = VesselSettings(home=tmp_path, name="plank-1")
    one, two = Plank(settings).card(), Plank(settings).card()
    assert one.name == two.name == "plank-1"
    assert one.incarnation != two.incarnation
    assert one.kind == "plank"


async def test_info_and_process_metrics(plank: Plank) -> None:
    """Every vessel tells which one it is."""
    labels = {
        "name": "plank-1", "kind": "plank", "incarnation": plank.incarnation, "version": plank.version,
    }  # fmt: skip
    assert plank.registry.get_sample_value("batos_vessel_info", labels) == 1.0


async def test_a_loop_that_stands_still_is_not_alive(plank: Plank) -> None:
    """/healthz fails once the event loop has not turned for the set time."""
    assert plank.health().alive
    plank._turned_at -= plank.settings.stall_s + 1
    assert not plank.health().alive
    plank.turned()
    assert plank.health().alive


async def test_first_end_counts(plank: Plank) -> None:
    """The first drain's time holds; a failure ends without a drain and keeps its first error."""
    plank.begin_drain(5.0)
    plank.begin_drain(50.0)
    assert plank.ending.is_set()
    assert plank.drain_timeout_s == 5.0
    first = VesselError("one", "first")
    plank.fail(first)
    plank.fail(VesselError("two", "second"))
    assert plank.failure is first
    assert plank.drain_timeout_s == 0.0


async def test_a_peer_is_missed_by_name(plank: Plank) -> None:
    """Asking for the peer before there is one says who has to attach it."""
    with pytest.raises(VesselError, match="plank-1 has no peer"):
        _ = plank.peer


def test_failures_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """An explained failure is one line; a fault nobody explained carries its traceback."""
    say_failure("plank-1", VesselError("x", "the plank is rotten", "take another"), started=False)
    say_failure("plank-1", KeyError("rot"), started=True)
    first, second = caplog.records
    assert first.getMessage() == "plank-1 cannot start: the plank is rotten; take another"
    assert not first.exc_info
    assert second.getMessage() == "plank-1 failed: KeyError: 'rot'"
    assert second.exc_info


def test_log_lines() -> None:
    """A line names time, level, vessel, logger; as JSON it can be read back."""
    record = logging.LogRecord("batos.plank", logging.WARNING, __file__, 1, "creaks %d times", (3,), None)
    assert LineFormatter("plank-1").format(record).endswith("Z WARNING plank-1 batos.plank: creaks 3 times")
    read = json.loads(JsonFormatter("plank-1").format(record))
    assert read["message"] == "creaks 3 times"
    assert read["vessel"] == "plank-1"


def test_tether_keeps_the_program() -> None:
    """A tethered argument list ends in the program's own."""
    arguments = tethered(["/bin/true", "x"])
    assert arguments[0] == sys.executable
    assert arguments[-2:] == ["/bin/true", "x"]
