"""How newer shipped methods come into an image that lives, and what was changed there stays."""

from __future__ import annotations

from typing import Any

import pytest

from batos.kernel import interface
from batos.kernel.genesis import sources, upgrade
from batos.kernel.inspecting import Inspecting
from batos.mind import compatibility
from batos.protocol import (
    ImageUpgrade,
    ImageUpgraded,
    Message,
    MethodInForce,
    MethodInstall,
    RequestContext,
    RequestFailed,
)
from batos.uvm import CommitFateUnknown, Image, Session, install_method, method_history, place_at, portray

IDLE = "lobby.psm_prototypes_obj.IDLE._process_synthesis_"
GREET = "lobby.traits_obj.greet_"


async def asked(inspecting: Inspecting, message: Message, context: RequestContext) -> Any:
    return await inspecting.handlers()[type(message)](message, context)


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


async def test_data_in_a_methods_place_is_kept(
    inspecting: Inspecting, image: Image, context: RequestContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a method that was changed here is, whether one was shipped there before or not; what stands there is told."""
    shipping(monkeypatch, mood_="def mood_(self):\n    return 'calm'\n")
    mood = IDLE.replace("_process_synthesis_", "mood_")
    with image.transaction() as root:
        root["lobby"].psm_prototypes_obj.IDLE.mood_ = ["precious"]
        root["lobby"].robin_prototype_obj.sage_facet_ = ""
    found: ImageUpgraded = await asked(inspecting, ImageUpgrade(), context)
    assert [(one.path, one.outcome, one.author, one.current) for one in found.methods] == [
        (mood, "conflict", "", "mood_ = ['precious']"),
        ("lobby.robin_prototype_obj.sage_facet_", "kept", "", "sage_facet_ = ''"),
    ]
    with image.snapshot() as root:
        assert list(root["lobby"].psm_prototypes_obj.IDLE.mood_) == ["precious"]
    (taken, _) = (await asked(inspecting, ImageUpgrade(take=(mood,)), context)).methods
    assert (taken.path, taken.outcome, taken.current) == (mood, "taken", "mood_ = ['precious']")
    with image.snapshot() as root:
        assert root["lobby"].psm_prototypes_obj.IDLE.mood_() == "calm"


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
