"""What a kernel answers about the image itself: places, their past, live methods, thoughts that are undone."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import msgspec
import pytest
from BTrees.Length import Length
from BTrees.OOBTree import OOBTree

from batos.kernel import missions
from batos.kernel.inspecting import Inspecting
from batos.kernel.ticket import CycleOutcome
from batos.mind import log_memory
from batos.protocol import (
    ImageCompare,
    ImageHistory,
    ImageShow,
    ImageUpgrade,
    Message,
    MethodHistory,
    MethodInForce,
    MethodInstall,
    MethodRevert,
    MethodVersions,
    MissionUndo,
    MissionUndone,
    ObjectsCompared,
    PlaceHistory,
    PlaceView,
    RequestContext,
    RequestFailed,
    new_id,
)
from batos.uvm import (
    Contention,
    Image,
    ImageUnreachable,
    PersistentList,
    Session,
    UvmObject,
    note_packed,
    undo,
)

IDLE = "lobby.psm_prototypes_obj.IDLE._process_synthesis_"
GREET = "lobby.traits_obj.greet_"


async def asked(inspecting: Inspecting, message: Message, context: RequestContext) -> Any:
    return await inspecting.handlers()[type(message)](message, context)


async def test_a_persona_as_it_stands_in_the_image(inspecting: Inspecting, context: RequestContext) -> None:
    """Slots, what it inherits and from whom."""
    found: PlaceView = await asked(inspecting, ImageShow(path="lobby.brick_prototype_obj"), context)
    assert found.kind == "object"
    assert {"codex", "dna", "name", "pillars"} <= {entry.name for entry in found.entries}
    assert found.parents == ("lobby.traits_obj",)
    assert {one.holder for one in found.inherited} == {"lobby.traits_obj"}
    assert all(method.source == "" for method in found.methods)


async def test_the_past_is_shown_as_it_was(inspecting: Inspecting, image: Image, context: RequestContext) -> None:
    """By transaction and by time; what is neither, or lies outside, is refused."""
    before = image.last_tid()
    with image.transaction(user="architect") as root:
        root["lobby"].motto = "later"
    assert (await asked(inspecting, ImageShow(path="lobby.motto"), context)).text == "later"
    for at, code in (
        (before, "path_unknown"),
        ("yesterday", "moment_invalid"),
        ("2001-01-01T00:00:00+00:00", "moment_unknown"),
        ("0999-01-01T00:00:00+00:00", "moment_unknown"),
        ("0001-01-01T00:00:00+14:00", "moment_unknown"),
        ("0" * 16, "moment_unknown"),
        ("f" * 16, "moment_unknown"),
        ("2026-01-01T00:00:00", "moment_invalid"),
        ((dt.datetime.now(dt.UTC) + dt.timedelta(days=1)).isoformat(), "moment_unknown"),
    ):
        with pytest.raises(RequestFailed) as caught:
            await asked(inspecting, ImageShow(path="lobby.motto", at=at), context)
        assert caught.value.code == code
    now = dt.datetime.now(dt.UTC).isoformat()
    for at in (now, "", image.last_tid()):
        found: PlaceView = await asked(inspecting, ImageShow(path="lobby.motto", at=at), context)
        assert (found.text, found.as_of) == ("later", image.last_tid())


async def test_histories_and_versions_end_where_the_view_does(
    inspecting: Inspecting, image: Image, context: RequestContext
) -> None:
    """What was written since that moment is in neither, however few changes are asked for."""
    for number in range(5):
        install = MethodInstall(path=GREET, source=f"def greet_(self): return {number}")
        tid = (await asked(inspecting, install, context)).tid
        if number == 1:
            then = tid
    past: MethodVersions = await asked(inspecting, MethodHistory(path=GREET, at=then), context)
    assert ([version.number for version in past.versions], past.in_force, past.as_of) == ([1, 2], 2, then)
    everything: PlaceHistory = await asked(inspecting, ImageHistory(path="lobby.traits_obj"), context)
    assert everything.as_of == image.last_tid()
    for limit in (1, 2, 50):
        found: PlaceHistory = await asked(
            inspecting, ImageHistory(path="lobby.traits_obj", limit=limit, at=then), context
        )
        assert found.as_of == then
        assert found.changes == tuple(one for one in everything.changes if one.tid <= then)[:limit]
        assert found.changes[0].tid == then


async def test_what_was_packed_away_is_refused(inspecting: Inspecting, image: Image, context: RequestContext) -> None:
    """Before the last pack nothing is shown, also of what has not changed since; from then on everything is."""
    before = image.last_tid()
    with image.transaction() as root:
        root["lobby"].motto = "later"
    kept = image.last_tid()
    with image.transaction() as root:
        note_packed(root, kept)
    for message in (
        ImageShow(path="lobby.brick_prototype_obj", at=before),
        ImageHistory(path="lobby", at=before),
        MethodHistory(path=IDLE, at=before),
        ImageCompare(path="lobby.brick_prototype_obj", other="lobby.robin_prototype_obj", at=before),
    ):
        with pytest.raises(RequestFailed, match="packed away") as caught:
            await asked(inspecting, message, context)
        assert caught.value.code == "moment_unknown"
    assert (await asked(inspecting, ImageShow(path="lobby.motto", at=kept), context)).text == "later"


async def test_two_objects_are_compared(inspecting: Inspecting, image: Image, context: RequestContext) -> None:
    """A clone with its ancestor unless another one is named; what has none, or is no object, is refused."""
    with image.transaction() as root:
        root["lobby"].twin = root["lobby"].brick_prototype_obj._clone_persistent_(name="TWIN")
    then = image.last_tid()
    await asked(inspecting, MethodInstall(path="lobby.twin.greet_", source="def greet_(self): return 1"), context)
    found: ObjectsCompared = await asked(inspecting, ImageCompare(path="lobby.twin"), context)
    assert (found.other, found.is_ancestor, found.same_parents) == ("lobby.brick_prototype_obj", True, True)
    assert [(one.name, one.kind, one.change, one.before, one.after) for one in found.differences] == [
        ("name", "slot", "changed", "BRICK", "TWIN"),
        ("greet_", "method", "added", "", "def greet_(self): return 1\n"),
    ]
    assert (found.as_of, found.same > 2) == (image.last_tid(), True)
    past: ObjectsCompared = await asked(inspecting, ImageCompare(path="lobby.twin", at=then), context)
    assert ([one.name for one in past.differences], past.as_of) == (["name"], then)
    other: ObjectsCompared = await asked(
        inspecting, ImageCompare(path="lobby.brick_prototype_obj", other="lobby.twin"), context
    )
    assert (other.is_ancestor, [one.change for one in other.differences]) == (False, ["changed", "removed"])
    for path, with_what, code in (
        ("lobby.traits_obj", "", "ancestor_unknown"),
        ("lobby.twin.name", "", "path_unknown"),
        ("lobby.twin", "lobby.nobody", "path_unknown"),
    ):
        with pytest.raises(RequestFailed) as caught:
            await asked(inspecting, ImageCompare(path=path, other=with_what), context)
        assert caught.value.code == code


async def test_who_changed_an_object(inspecting: Inspecting, image: Image, context: RequestContext) -> None:
    """The newest change first, with its mission."""
    with image.transaction(user="kernel-1", note="a thought", mission="m1") as root:
        root["lobby"].traits_obj.mood = "glad"
    found: PlaceHistory = await asked(inspecting, ImageHistory(path="lobby.traits_obj"), context)
    assert (found.changes[0].user, found.changes[0].mission) == ("kernel-1", "m1")
    assert len(found.changes) == 2


async def test_the_architect_installs_looks_back_and_reverts(
    inspecting: Inspecting, image: Image, context: RequestContext
) -> None:
    """Each request may be repeated and then changes nothing more; what is in force runs."""
    first: MethodInForce = await asked(
        inspecting, MethodInstall(path=GREET, source="def greet_(self): return 'hello'"), context
    )
    assert (first.method.number, first.method.author, first.changed) == (1, "architect", True)
    repeated: MethodInForce = await asked(
        inspecting, MethodInstall(path=GREET, source="def greet_(self): return 'hello'"), context
    )
    assert (repeated.method.number, repeated.changed, repeated.tid) == (1, False, first.tid)
    await asked(inspecting, MethodInstall(path=GREET, source="def greet_(self): return 'ahoy'"), context)
    back: MethodInForce = await asked(inspecting, MethodRevert(path=GREET, number=1), context)
    assert (back.method.number, back.changed) == (3, True)
    with image.snapshot() as root:
        assert root["lobby"].brick_prototype_obj.greet_() == "hello"
    found: MethodVersions = await asked(inspecting, MethodHistory(path=GREET), context)
    assert [version.source for version in found.versions] == [
        "def greet_(self): return 'hello'\n",
        "def greet_(self): return 'ahoy'\n",
        "def greet_(self): return 'hello'\n",
    ]
    assert found.in_force == 3


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (MethodHistory(path="lobby.traits_obj.nothing_"), "path_unknown"),
        (MethodHistory(path="lobby"), "path_unknown"),
        (MethodRevert(path=IDLE, number=9), "version_unknown"),
        (MethodInstall(path=GREET, source="def other(self): pass"), "method_broken"),
        (MethodInstall(path=GREET, source="def greet_(self) return"), "method_broken"),
        (MethodInstall(path="lobby.traits_obj._p_jar", source="def _p_jar(self): pass"), "method_name"),
        (MethodInstall(path="lobby.nowhere.greet_", source="def greet_(self): pass"), "path_unknown"),
        (ImageShow(path="lobby.brick_prototype_obj()"), "path_unknown"),
        (ImageUpgrade(take=("lobby.traits_obj.nothing_",)), "method_unknown"),
    ],
)
async def test_what_cannot_be_done_is_refused_and_changes_nothing(
    inspecting: Inspecting, image: Image, context: RequestContext, message: Message, code: str
) -> None:
    """With a code for programs and a sentence for people."""
    before = image.last_tid()
    with pytest.raises(RequestFailed) as caught:
        await asked(inspecting, message, context)
    assert caught.value.code == code
    assert image.last_tid() == before


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (Contention("install", 20), "image_busy"),
        (ImageUnreachable("zeo://x", 30.0, "committing"), "image_unreachable"),
    ],
    ids=["busy", "away"],
)
async def test_an_image_that_is_busy_is_not_said_to_be_away(
    inspecting: Inspecting, context: RequestContext, monkeypatch: pytest.MonkeyPatch, wrong: Exception, code: str
) -> None:
    """Others who keep writing the same, and an image that does not answer, are two things with two words."""

    def commit(self: Session, **fields: str) -> str:
        del self, fields
        raise wrong

    monkeypatch.setattr(Session, "commit", commit)
    with pytest.raises(RequestFailed) as refused:
        await asked(inspecting, MethodInstall(path=GREET, source=_greeting(2)), context)
    assert (refused.value.code, refused.value.transient) == (code, True)


def _greeting(host: int) -> str:
    return f"HOST = {host}\n\n\ndef greet_(self):\n    return 'hello'\n"


async def test_after_an_undo_the_version_in_force_is_told(
    inspecting: Inspecting, image: Image, context: RequestContext
) -> None:
    """Reverting to it changes nothing and says so; reverting to the newest one brings that back."""
    for number in (1, 2):
        await asked(inspecting, MethodInstall(path=GREET, source=f"def greet_(self): return {number}"), context)
    undone = image.last_tid()
    image.run(lambda root: undo(root, undone))
    found: MethodVersions = await asked(inspecting, MethodHistory(path=GREET), context)
    assert ([version.number for version in found.versions], found.in_force) == ([1, 2], 1)
    same: MethodInForce = await asked(inspecting, MethodRevert(path=GREET, number=1), context)
    assert (same.method.number, same.changed) == (1, False)
    back: MethodInForce = await asked(inspecting, MethodRevert(path=GREET, number=2), context)
    assert (back.method.number, back.changed) == (3, True)


async def test_values_that_are_hard_to_tell_are_told(
    inspecting: Inspecting, image: Image, context: RequestContext
) -> None:
    """What contains itself, is very deep or very large, or is no proper text: shown, and fit to be sent."""
    deep = PersistentList()
    for _ in range(3000):
        deep = PersistentList([deep])
    with image.transaction() as root:
        loop: list[object] = PersistentList([1])
        loop.append(loop)
        names = {"\ud800": 1}
        root["lobby"].hard = UvmObject(
            loop=loop, deep=deep, large=10**5000, half="a\ud800", names=names, count=Length(3)
        )
        root["lobby"].twin = UvmObject(loop=[2])
        root["lobby"].tree = OOBTree({10**5000: 1})
    for path in ("", ".loop", ".deep", ".large", ".half", ".names", ".count"):
        found: PlaceView = await asked(inspecting, ImageShow(path=f"lobby.hard{path}"), context)
        assert json.loads(msgspec.json.encode(found))["path"] == f"lobby.hard{path}"
        assert "0x" not in found.text
    with pytest.raises(RequestFailed, match="it has <an integer of 16610 bits>"):
        await asked(inspecting, ImageShow(path="lobby.tree[1]"), context)
    compared: ObjectsCompared = await asked(inspecting, ImageCompare(path="lobby.hard", other="lobby.twin"), context)
    assert len(json.loads(msgspec.json.encode(compared))["differences"]) == 6


def completed(image: Image, mission_id: str) -> str:
    """A mission whose thought changed an object beside its record; return the thought's transaction."""
    with image.transaction() as root:
        root["lobby"].traits_obj.mood = "calm"
        missions.create(root, mission_id=mission_id, text="Be wild.", owner=missions.Owner("kernel-1", "i1"))
    with image.transaction(cycle="c1", mission=mission_id) as root:
        root["lobby"].traits_obj.mood = "wild"
        held = missions.ticket(missions.find(root, mission_id))
        missions.complete(root, held, CycleOutcome(outcome="COMPLETE", answer="Wild now."))
    return image.last_tid()


async def test_a_thought_is_undone_and_its_mission_says_so(
    inspecting: Inspecting, image: Image, context: RequestContext
) -> None:
    """First on paper; then for real; the record keeps answer and transaction; asked again nothing more happens."""
    mission_id = new_id()
    thought = completed(image, mission_id)
    paper: MissionUndone = await asked(inspecting, MissionUndo(mission_id=mission_id, dry_run=True), context)
    assert (paper.thought, paper.tid, paper.restored, paper.left) == (thought, "", ("lobby.traits_obj",), ())
    assert image.last_tid() == thought
    done: MissionUndone = await asked(inspecting, MissionUndo(mission_id=mission_id), context)
    assert (done.restored, done.thought) == (paper.restored, thought)
    with image.snapshot() as root:
        assert root["lobby"].traits_obj.mood == "calm"
        status = missions.status(missions.find(root, mission_id))
        assert (status.state, status.answer, status.tid) == ("UNDONE", "Wild now.", thought)
        assert log_memory.cycles(root, outcome="UNDONE") == [status.cycle_id]
    with image.transaction() as root:
        root["lobby"].motto = "others commit meanwhile"
    before = image.last_tid()
    again: MissionUndone = await asked(inspecting, MissionUndo(mission_id=mission_id), context)
    assert (again.restored, again.thought, again.tid) == (done.restored, thought, done.tid)
    assert image.last_tid() == before
    with image.snapshot() as root:
        assert root["lobby"].traits_obj.mood == "calm"
        assert missions.claim(root, mission_id, missions.Owner("kernel-2", "i2")) is None


async def test_only_a_committed_thought_can_be_undone(
    inspecting: Inspecting, image: Image, context: RequestContext
) -> None:
    """A mission that nobody knows, or that has not ended, is refused with a code."""
    mission_id = new_id()
    with image.transaction() as root:
        missions.create(root, mission_id=mission_id, text="Wait.")
    for unfit, code in ((mission_id, "mission_not_complete"), (new_id(), "mission_unknown")):
        with pytest.raises(RequestFailed) as caught:
            await asked(inspecting, MissionUndo(mission_id=unfit), context)
        assert caught.value.code == code
