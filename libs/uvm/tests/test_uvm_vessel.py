"""The vessel's side, which is handed on and never stored."""

from __future__ import annotations

import pickle

import pytest

from batos.uvm import BatOSUVM, BelongsToVessel


def test_only_where_and_who_outlive_a_vessel(uri: str) -> None:
    """All else is built anew by the successor."""
    with BatOSUVM(uri, identity="bat") as first:
        assert first.__getstate__() == {"image_uri": uri, "identity": "bat"}
        with first.image.transaction() as root:
            root["lobby"].x = 1
        handed_on = pickle.dumps(first)
    with pickle.loads(handed_on) as second:  # noqa: S301 - its own bytes, a line above
        assert (second.image_uri, second.identity) == (uri, "bat")
        with second.image.snapshot() as root:
            assert root["lobby"].x == 1


def test_a_new_mind_gets_an_identity(uri: str) -> None:
    """Two are never the same."""
    with BatOSUVM(uri) as first:
        pass
    with BatOSUVM(uri) as second:
        assert first.identity != second.identity


class Kernel(BatOSUVM):
    """A vessel with a queue."""

    queue: list[str]

    def _initialize_transient_state(self) -> None:
        super()._initialize_transient_state()
        self.queue = []


def test_a_successor_builds_what_its_class_adds(uri: str) -> None:
    """A vessel's own transient parts are made in the same place."""
    with Kernel(uri) as first:
        first.queue.append("work")
        state = first.__getstate__()
    second = Kernel.__new__(Kernel)
    second.__setstate__(state)
    with second:
        assert second.queue == []


def test_the_image_refuses_the_vessel(uri: str) -> None:
    """It is a runtime thing, whichever way it comes."""
    with BatOSUVM(uri) as vessel, vessel.image.session() as session:
        with pytest.raises(BelongsToVessel, match=r"lobby\.uvm: 'batos\.uvm\.vessel\.BatOSUVM'"):
            session.begin()["lobby"].uvm = vessel
        session.root["uvm"] = vessel
        with pytest.raises(BelongsToVessel, match=r"root\['uvm'\]: 'batos\.uvm\.vessel\.BatOSUVM'"):
            session.commit()
