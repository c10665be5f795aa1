"""`batos image show|history|versions|diff|install|revert|upgrade`: what is asked of the kernel, what is shown."""

from __future__ import annotations

import io
import json

import pytest
from console_fake_fleet import FakeFleet
from rich.console import Console

from batos.console import inspecting
from batos.console.errors import WrongUsage
from batos.console.show import Screen
from batos.protocol import (
    ChangeView,
    DifferenceView,
    EntryView,
    ImageCompare,
    ImageHistory,
    ImageShow,
    ImageUpgrade,
    ImageUpgraded,
    InheritedView,
    LeftView,
    MethodHistory,
    MethodInForce,
    MethodInstall,
    MethodRevert,
    MethodUpgrade,
    MethodVersions,
    MethodView,
    MissionUndo,
    MissionUndone,
    ObjectsCompared,
    PlaceHistory,
    PlaceView,
    Roster,
    RosterGet,
    VesselCard,
)

PATH = "lobby.traits_obj.greet_"


def screen(*, as_json: bool = False) -> Screen:
    def console() -> Console:
        return Console(file=io.StringIO(), width=120, markup=False, highlight=False, emoji=False)

    return Screen(out=console(), err=console(), as_json=as_json)


def written(found: Screen) -> str:
    assert isinstance(found.out.file, io.StringIO)
    return found.out.file.getvalue()


def version(number: int, source: str, author: str = "genesis") -> MethodView:
    return MethodView(name="greet_", number=number, author=author, time=number * 1000.0, hash="ab" * 32, source=source)


@pytest.fixture
def fleet() -> FakeFleet:
    found = FakeFleet()
    found.answers[MethodHistory] = MethodVersions(
        path=PATH,
        versions=(
            version(1, "def greet_(self):\n    return 1\n"),
            version(2, "def greet_(self):\n    return 2\n", "cycle-7"),
        ),
        in_force=2,
    )
    return found


async def test_a_place_is_shown_with_what_is_own_and_what_is_inherited(fleet: FakeFleet) -> None:
    """Slots, methods with their author, ancestors; at a moment where one is given."""
    fleet.answers[ImageShow] = PlaceView(
        path="lobby.bird",
        kind="object",
        oid="01" * 8,
        tid="02" * 8,
        as_of="03" * 8,
        parents=("lobby.traits_obj",),
        entries=(EntryView(name="legs", kind="int", shown="2"),),
        methods=(version(2, ""),),
        inherited=(InheritedView(name="voice", holder="lobby.traits_obj"),),
    )
    found = screen()
    assert await inspecting.show(fleet, found, "lobby.bird", at="03" * 8, request_s=5) == 0
    (asked,) = fleet.bodies(ImageShow)
    assert (asked.path, asked.at) == ("lobby.bird", "03" * 8)
    for words in ("lobby.bird", "legs", "version 2 by genesis", "voice", "lobby.traits_obj", "03" * 8):
        assert words in written(found)


async def test_json_has_every_field_and_no_tag(fleet: FakeFleet, capsys: pytest.CaptureFixture[str]) -> None:
    """What programs read is the reply as it is."""
    fleet.answers[ImageHistory] = PlaceHistory(
        path="lobby", changes=(ChangeView(tid="01" * 8, time=5.0, user="kernel-1", mission="m1"),)
    )
    found = screen(as_json=True)
    assert await inspecting.history(fleet, found, "lobby", at="", limit=3, request_s=5) == 0
    assert json.loads(capsys.readouterr().out) == {
        "path": "lobby",
        "changes": [
            {"tid": "01" * 8, "time": 5.0, "user": "kernel-1", "note": "", "cycle": "", "mission": "m1", "size": 0}
        ],
        "as_of": "",
    }
    assert fleet.bodies(ImageHistory)[0].limit == 3


async def test_a_time_in_a_history_can_be_given_back(fleet: FakeFleet) -> None:
    """It is one word, a time with its zone, and exact enough to show that change."""
    fleet.answers[ImageHistory] = PlaceHistory(
        path="lobby",
        changes=(
            ChangeView(tid="01" * 8, time=1800000000.1234567, user="kernel-1", note="a thought", mission="0" * 32),
            ChangeView(tid="02" * 8, time=1800000000.0, user="kernel-1"),
        ),
    )
    found = screen()
    assert await inspecting.history(fleet, found, "lobby", at="", limit=3, request_s=5) == 0
    times = [line.split()[1] for line in written(found).splitlines() if line.startswith("0")]
    assert times == ["2027-01-15T08:00:00.123457Z", "2027-01-15T08:00:00Z"]


async def test_data_in_a_methods_place_is_named(fleet: FakeFleet) -> None:
    """Nobody's version is in force there."""
    fleet.answers[ImageUpgrade] = ImageUpgraded(
        methods=(MethodUpgrade(path=PATH, outcome="conflict", current="greet_ = 'hm'"),), unchanged=40
    )
    fleet.answers[RosterGet] = Roster(bus_incarnation="b", bus_started_at=0.0, vessels=(kernel("1", "0.9.0"),))
    found = screen()
    assert await inspecting.upgrade(fleet, found, dry_run=True, take=[], request_s=5) == 1
    assert "a slot of data" in written(found)


async def test_two_objects_are_shown_side_by_side(fleet: FakeFleet, capsys: pytest.CaptureFixture[str]) -> None:
    """What was added, removed, changed, with both values; whether the parents are the same; the ancestor by name."""
    fleet.answers[ImageCompare] = ObjectsCompared(
        path="lobby.owl",
        other="lobby.bird",
        is_ancestor=True,
        parents=("lobby.bird",),
        other_parents=(),
        same_parents=False,
        differences=(
            DifferenceView(name="legs", kind="slot", change="changed", before="2", after="3"),
            DifferenceView(name="hum_", kind="method", change="added", after="def hum_(self):\n    pass\n"),
            DifferenceView(name="voice", kind="slot", change="removed", before="tweet"),
        ),
        same=4,
        as_of="03" * 8,
    )
    found = screen()
    assert await inspecting.compare(fleet, found, "lobby.owl", "", at="03" * 8, request_s=5) == 0
    (asked,) = fleet.bodies(ImageCompare)
    assert (asked.path, asked.other, asked.at) == ("lobby.owl", "", "03" * 8)
    lines = [line.rstrip() for line in written(found).splitlines()]
    for words in (
        f"as of {'03' * 8}: what was committed up to there",
        "lobby.owl, compared with its ancestor lobby.bird",
        "parents: lobby.bird; there: none",
        "changed slot legs",
        "--- lobby.bird",
        "-2",
        "+3",
        "added method hum_",
        "+def hum_(self):",
        "removed slot voice",
        "-tweet",
        "3 differ, 4 are the same; other parents",
    ):
        assert words in lines
    await inspecting.compare(fleet, screen(as_json=True), "lobby.owl", "lobby.bird", at="", request_s=5)
    shown = json.loads(capsys.readouterr().out)
    assert (shown["as_of"], shown["differences"][0]["after"]) == ("03" * 8, "3")


async def test_versions_say_which_is_in_force(fleet: FakeFleet) -> None:
    """And where a method was deleted, that none is."""
    found = screen()
    await inspecting.versions(fleet, found, PATH, at="", request_s=5)
    assert "in force" in written(found).splitlines()[2]
    fleet.answers[MethodHistory] = MethodVersions(path=PATH, versions=(version(1, ""),), in_force=0)
    gone = screen()
    await inspecting.versions(fleet, gone, PATH, at="", request_s=5)
    assert "deleted" in written(gone)


async def test_the_last_two_versions_are_compared_unless_told_otherwise(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    """As diff -u writes it, with the authors; a version that does not exist is wrong usage."""
    found = screen(as_json=True)
    await inspecting.diff(fleet, found, PATH, at="", old=None, new=None, request_s=5)
    shown = json.loads(capsys.readouterr().out)
    assert (shown["old"], shown["new"]) == (1, 2)
    assert "-    return 1\n+    return 2\n" in shown["diff"]
    assert "version 2 (cycle-7)" in shown["diff"]
    same = screen()
    await inspecting.diff(fleet, same, PATH, at="", old=2, new=2, request_s=5)
    assert "are the same" in written(same)
    with pytest.raises(WrongUsage, match=r"has no version 3.*1 to 2"):
        await inspecting.diff(fleet, screen(), PATH, at="", old=1, new=3, request_s=5)


async def test_installing_and_reverting_say_what_is_in_force(fleet: FakeFleet) -> None:
    """And whether anything was changed."""
    fleet.answers[MethodInstall] = MethodInForce(
        path=PATH, method=version(3, "s", "architect"), tid="04" * 8, changed=True
    )
    fleet.answers[MethodRevert] = MethodInForce(
        path=PATH, method=version(3, "s", "architect"), tid="04" * 8, changed=False
    )
    found = screen()
    assert await inspecting.install(fleet, found, PATH, "def greet_(self): ...", request_s=5) == 0
    assert await inspecting.revert(fleet, found, PATH, 3, request_s=5) == 0
    words = " ".join(written(found).split())
    assert f"version 3 by architect is in force now ({'04' * 8})" in words
    assert f"version 3 by architect was in force already ({'04' * 8})" in words
    assert fleet.bodies(MethodInstall)[0].source == "def greet_(self): ..."


def kernel(number: str, release: str) -> VesselCard:
    return VesselCard(
        name=f"kernel-{number}", kind="kernel", incarnation=number, pid=1, version=release, started_at=0.0, ready=True
    )


@pytest.mark.parametrize(("outcome", "code"), [("replaced", 0), ("kept", 0), ("conflict", 1)])
async def test_an_upgrade_fails_only_where_both_sides_changed(fleet: FakeFleet, outcome: str, code: int) -> None:
    """What was done stands in a table; a conflict is exit 1, so that scripts notice."""
    fleet.answers[ImageUpgrade] = ImageUpgraded(
        methods=(MethodUpgrade(path=PATH, outcome=outcome, author="cycle-7"),), unchanged=40
    )
    fleet.answers[RosterGet] = Roster(
        bus_incarnation="b",
        bus_started_at=0.0,
        vessels=tuple(kernel(name, release) for name, release in (("1", "0.9.0"), ("2", "0.10.0"), ("3", "0.2.0"))),
    )
    found = screen()
    assert await inspecting.upgrade(fleet, found, dry_run=True, take=["a"], request_s=5) == code
    assert [service for service, body in fleet.asked if type(body) is ImageUpgrade] == ["kernel/kernel-2"]
    (asked,) = fleet.bodies(ImageUpgrade)
    assert (asked.dry_run, asked.take) == (True, ("a",))
    assert outcome in written(found)
    assert "40 methods are as they are shipped; nothing was written" in written(found)


async def test_an_undo_lists_what_was_restored_and_what_was_left(fleet: FakeFleet) -> None:
    """With the reason; on paper it says that nothing was written."""
    fleet.answers[MissionUndo] = MissionUndone(
        mission_id="m1",
        thought="05" * 8,
        restored=("lobby.a",),
        made=2,
        left=(LeftView(path="lobby.b", why="changed"),),
    )
    found = screen()
    assert await inspecting.undo(fleet, found, "m1", dry_run=True, request_s=5) == 0
    words = " ".join(written(found).split())
    for expected in ("restored lobby.a", "left lobby.b changed", "nothing was written", "2 objects that it made stay"):
        assert expected in words
    assert fleet.bodies(MissionUndo)[0].dry_run
