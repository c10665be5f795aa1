"""A place's state machine: who fills it, who follows, when it is filled again."""

from __future__ import annotations

import pytest

from batos.supervisor import PlaceError, PlaceSpec
from batos.supervisor.place import Backoff, Ended, Place, Restart, Succeeded, SuccessorLost

BACKOFF = Backoff(first_s=0.2, ceiling_s=10.0, stable_s=30.0, short_s=2.0, loop_after=4, jitter=lambda: 1.0)


def place(*, two_at_once: bool = True) -> Place:
    made = Place(PlaceSpec("kernel-1", "kernel", ("x",), two_at_once=two_at_once), BACKOFF)
    made.started(100, 0.0)
    return made


def test_what_ends_unasked_is_started_again() -> None:
    """A process that was killed leaves its place empty, to be filled at once or nearly so."""
    kernel = place()
    assert kernel.exited(100, -9, 50.0, "last line") == Restart(0.2)
    assert kernel.current is None
    assert kernel.last_end == "ended with signal 9 after 50.0 s: last line"


def test_an_orderly_end_is_no_failure() -> None:
    """After exit code 0 (a drain) the place is filled without waiting."""
    kernel = place()
    assert kernel.exited(100, 0, 10.0) == Restart(0.0)
    assert kernel.failures == 0


def test_orderly_ends_in_a_row_are_a_failure() -> None:
    """A process that ends with 0 as soon as it starts is not started without end and without a pause."""
    kernel = place()
    assert kernel.exited(100, 0, 0.5) == Restart(0.2)


def test_waits_grow_to_their_ceiling() -> None:
    """Failures in a row double the wait up to the ceiling; it never gives up; a stable life wipes them out."""
    kernel = place()
    waits = []
    for number in range(12):
        verdict = kernel.exited(100 + number, 1, float(number))
        assert isinstance(verdict, Restart)
        waits.append(verdict.after_s)
        assert kernel.is_looping == (number >= 3)
        kernel.started(101 + number, float(number))
    assert waits[:7] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0]
    assert set(waits[7:]) == {10.0}
    assert kernel.exited(112, 1, 60.0) == Restart(0.2)
    assert not kernel.is_looping


def test_jitter_spreads_waits() -> None:
    """Jitter takes up to half of the wait away."""
    backoff = Backoff(first_s=1.0, ceiling_s=10.0, stable_s=30.0, short_s=2.0, loop_after=4, jitter=lambda: 0.0)
    assert backoff.wait_s(1) == 0.5
    assert backoff.wait_s(1000) == 5.0
    assert backoff.wait_s(0) == 0.0


def test_a_successor_takes_the_place() -> None:
    """When the first process ends while a successor runs, the successor has the place and nothing is started."""
    kernel = place()
    assert kernel.check_successor() is None
    kernel.successor_started(200, 5.0)
    assert kernel.check_successor() == 200
    assert kernel.pids == (100, 200)
    assert kernel.exited(100, 0, 9.0) == Succeeded()
    assert (kernel.current, kernel.successor) == (200, None)
    assert kernel.exited(200, 1, 60.0) == Restart(0.2)


def test_a_successor_takes_over_from_the_dead() -> None:
    """Also when the first process crashes meanwhile; who asked for the successor then finds it, and gets no third."""
    kernel = place()
    kernel.successor_started(200, 5.0)
    assert kernel.exited(100, -9, 6.0) == Succeeded()
    assert kernel.check_successor(beside=100) == 200
    assert kernel.check_successor(beside=200) is None


def test_a_successor_that_ends() -> None:
    """Its end starts nothing; how it ended is told to who asks, until it is abandoned."""
    kernel = place()
    kernel.successor_started(200, 5.0)
    assert kernel.exited(200, 1, 6.0, "no image") == SuccessorLost()
    assert kernel.current == 100
    with pytest.raises(PlaceError, match=r"ended with exit code 1 after 1\.0 s: no image") as caught:
        kernel.check_successor()
    assert caught.value.code == "successor_failed"
    assert kernel.abandon() is None
    assert kernel.check_successor() is None


def test_an_abandoned_successor() -> None:
    """Once abandoned, its end means nothing and another may follow."""
    kernel = place()
    kernel.successor_started(200, 5.0)
    assert kernel.abandon() == 200
    assert kernel.exited(200, 0, 6.0) == Ended()
    assert kernel.current == 100
    assert kernel.check_successor() is None


def test_who_is_alone_has_no_successor() -> None:
    """A place for one refuses a second and says what to do."""
    with pytest.raises(PlaceError, match="drain it") as caught:
        place(two_at_once=False).check_successor()
    assert caught.value.code == "place_single"


def test_nobody_follows_nobody() -> None:
    """While its process is being started again a place has no successor."""
    kernel = place()
    kernel.exited(100, 1, 5.0)
    with pytest.raises(PlaceError) as caught:
        kernel.check_successor()
    assert caught.value.code == "place_empty"


def test_a_stopping_fleet_starts_nothing() -> None:
    """Once the fleet is stopped, ends are ends."""
    kernel = place()
    kernel.successor_started(200, 5.0)
    kernel.stop()
    assert kernel.exited(200, 0, 9.0) == Ended()
    assert kernel.exited(100, 1, 9.0) == Ended()
    with pytest.raises(PlaceError, match="being stopped"):
        kernel.check_successor()


def test_what_cannot_be_started_is_tried_again() -> None:
    """A process that the system would not start counts as one that failed."""
    kernel = place()
    kernel.exited(100, 1, 50.0)
    assert kernel.unstartable("out of memory") == Restart(0.4)
    assert kernel.last_end == "could not be started: out of memory"
