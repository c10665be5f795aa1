"""What a kernel answers about the image itself, and how newer shipped methods come into it."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from batos.kernel import interface, missions
from batos.kernel.genesis import sources, upgrade
from batos.kernel.inspecting import Inspecting
from batos.kernel.ticket import CycleOutcome
from batos.mind import compatibility, log_memory
from batos.protocol import (
    ImageCompare,
    ImageHistory,
    ImageShow,
    ImageUpgrade,
    ImageUpgraded,
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
    CommitFateUnknown,
    Contention,
    Image,
    ImageUnreachable,
    Session,
    install_method,
    method_history,
    note_packed,
    place_at,
    portray,
)

IDLE = "lobby.psm_prototypes_obj.IDLE._process_synthesis_"
GREET = "lobby.traits_obj.greet_"
PLANK = compatibility.Kernel("kernel-1", "k1", "0.1.0", interface.HOST, interface.IMAGE)


@pytest.fixture
def context() -> RequestContext:
    return RequestContext(id="r", parent="", sender="console-1", session="s", attempt=0, deadline=0.0)


@pytest.fixture
def inspecting(image: Image) -> Inspecting:
    return Inspecting(image=image, kernel=PLANK)


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
        ("2026-01-01T00:00:00", "moment_unknown"),
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


def shipping(monkeypatch: pytest.MonkeyPatch, **changed: str) -> None:
    """Let this release ship other sources of the state IDLE's file."""
    shipped = {**sources.method_sources("idle"), **changed}
    plain = sources.method_sources
    monkeypatch.setattr(upgrade, "method_sources", lambda file: shipped if file == "idle" else plain(file))


NEWER = "def _process_synthesis_(self, cycle):\n    return 'newer'\n"
OURS = "def _process_synthesis_(self, cycle):\n    return 'ours'\n"


async def test_an_image_that_is_up_to_date(inspecting: Inspecting, image: Image, context: RequestContext) -> None:
    """Nothing differs after genesis, and nothing is written."""
    before = image.last_tid()
    found: ImageUpgraded = await asked(inspecting, ImageUpgrade(), context)
    assert (found.methods, found.tid) == ((), "")
    assert found.unchanged > 20
    assert image.last_tid() == before


async def test_an_untouched_method_follows_the_release(
    inspecting: Inspecting, image: Image, context: RequestContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First on paper, then for real, then there is nothing left to do."""
    shipping(monkeypatch, _process_synthesis_=NEWER, hum_="def hum_(self):\n    return 'hm'\n")
    before = image.last_tid()
    paper: ImageUpgraded = await asked(inspecting, ImageUpgrade(dry_run=True), context)
    outcomes = {(one.path.rpartition(".")[2], one.outcome) for one in paper.methods}
    assert outcomes == {("_process_synthesis_", "replaced"), ("hum_", "added")}
    assert image.last_tid() == before
    done: ImageUpgraded = await asked(inspecting, ImageUpgrade(), context)
    assert done.methods == paper.methods
    assert done.tid == image.last_tid() > before
    with image.snapshot() as root:
        assert root["lobby"].psm_prototypes_obj.IDLE.hum_() == "hm"
        assert method_history(root["lobby"].psm_prototypes_obj.IDLE, "_process_synthesis_")[-1].author == "genesis"
    assert (await asked(inspecting, ImageUpgrade(), context)).methods == ()


async def test_an_upgrade_waits_for_the_last_kernel_to_be_rolled(
    inspecting: Inspecting, image: Image, context: RequestContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a registered kernel does not serve is neither installed nor brought by an upgrade, and it is named."""
    before = compatibility.Kernel("kernel-7", "k7", "0.0.9", compatibility.Span(1, 2), interface.IMAGE)
    image.run(lambda root: compatibility.register(root, before))
    tid = image.last_tid()
    source = f"HOST = 3\n\n\n{NEWER}"
    shipping(monkeypatch, _process_synthesis_=source)
    for request in (ImageUpgrade(), ImageUpgrade(dry_run=True), MethodInstall(path=GREET, source=_greeting(3))):
        with pytest.raises(
            RequestFailed, match=r"kernel-7 \(release 0.0.9\) serves 1 to 2.*batos roll kernel"
        ) as refused:
            await asked(inspecting, request, context)
        assert refused.value.code == "kernel_lacks"
    assert image.last_tid() == tid
    image.run(lambda root: compatibility.unregister(root, {"k7"}) and None)
    assert [one.outcome for one in (await asked(inspecting, ImageUpgrade(), context)).methods] == ["replaced"]
    with pytest.raises(compatibility.Incompatible, match="kernel-7"):
        image.run(lambda root: compatibility.register(root, before))


@pytest.mark.parametrize("stored", [True, False], ids=["in", "not in"])
async def test_a_change_of_unknown_fate_is_told_as_it_was(
    inspecting: Inspecting, image: Image, context: RequestContext, monkeypatch: pytest.MonkeyPatch, *, stored: bool
) -> None:
    """The image went away at the very end of a commit: what is in is not done again, and is told as done."""
    real, fates = Session.commit, [stored]

    def commit(self: Session, **fields: str) -> str:
        if not fates:
            return real(self, **fields)
        if fates.pop():
            real(self, **fields)
        else:
            self.abort()
        raise CommitFateUnknown("zeo://x")

    monkeypatch.setattr(Session, "commit", commit)
    done: MethodInForce = await asked(inspecting, MethodInstall(path=GREET, source=_greeting(2)), context)
    assert (done.method.number, done.changed) == (1, True)
    shipping(monkeypatch, _process_synthesis_=f"HOST = 2\n\n\n{NEWER}")
    fates.append(stored)
    upgraded: ImageUpgraded = await asked(inspecting, ImageUpgrade(), context)
    assert [one.outcome for one in upgraded.methods] == ["replaced"]
    with image.snapshot() as root:
        assert upgraded.tid == portray(place_at(root, IDLE)).tid
        assert len(method_history(root["lobby"].psm_prototypes_obj.IDLE, "_process_synthesis_")) == 2


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


async def test_an_upgrade_is_made_by_the_newest_release(
    inspecting: Inspecting, image: Image, context: RequestContext
) -> None:
    """An older release would take back what a newer one brought: it refuses, and says whom to ask."""
    newer = compatibility.Kernel("kernel-7", "k7", "0.10.0", interface.HOST, interface.IMAGE)
    image.run(lambda root: compatibility.register(root, newer))
    with pytest.raises(RequestFailed, match=r"kernel-7 is of the newer release 0\.10\.0"):
        await asked(inspecting, ImageUpgrade(), context)


def _greeting(host: int) -> str:
    return f"HOST = {host}\n\n\ndef greet_(self):\n    return 'hello'\n"


async def test_a_method_that_was_changed_here_is_kept(
    inspecting: Inspecting, image: Image, context: RequestContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changed here alone: kept. Changed on both sides: a conflict, kept, until the Architect takes the shipped one."""
    with image.transaction() as root:
        install_method(root["lobby"].psm_prototypes_obj.IDLE, "_process_synthesis_", OURS, author="architect")
    (kept,) = (await asked(inspecting, ImageUpgrade(), context)).methods
    assert (kept.path, kept.outcome, kept.author, kept.current) == (IDLE, "kept", "architect", OURS)
    shipping(monkeypatch, _process_synthesis_=NEWER)
    (conflict,) = (await asked(inspecting, ImageUpgrade(), context)).methods
    assert (conflict.outcome, conflict.shipped) == ("conflict", NEWER)
    with image.snapshot() as root:
        assert root["lobby"].psm_prototypes_obj.IDLE._process_synthesis_(None) == "ours"
    (taken,) = (await asked(inspecting, ImageUpgrade(take=(IDLE,)), context)).methods
    assert taken.outcome == "taken"
    with image.snapshot() as root:
        assert root["lobby"].psm_prototypes_obj.IDLE._process_synthesis_(None) == "newer"
        assert [
            version.author for version in method_history(root["lobby"].psm_prototypes_obj.IDLE, "_process_synthesis_")
        ] == [
            "genesis",
            "architect",
            "genesis",
        ]


async def test_a_method_that_was_deleted_here_stays_deleted(
    inspecting: Inspecting, image: Image, context: RequestContext
) -> None:
    """Until the Architect takes the shipped one."""
    path = "lobby.robin_prototype_obj.sage_facet_"
    with image.transaction() as root:
        del root["lobby"].robin_prototype_obj.sage_facet_
    (deleted,) = (await asked(inspecting, ImageUpgrade(), context)).methods
    assert (deleted.path, deleted.outcome) == (path, "deleted")
    (taken,) = (await asked(inspecting, ImageUpgrade(take=(path,)), context)).methods
    assert taken.outcome == "taken"


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
