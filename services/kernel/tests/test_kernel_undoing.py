"""Undoing the thoughts of missions, in the image that they were thought in."""

from __future__ import annotations

import pytest

from batos.kernel import interface, missions
from batos.kernel.inspecting import Inspecting
from batos.kernel.ticket import CycleOutcome
from batos.mind import compatibility
from batos.protocol import MissionUndo, RequestContext, RequestFailed, new_id
from batos.uvm import Image, note_packed, open_image


@pytest.fixture
def moody(image: Image) -> Image:
    with image.transaction() as root:
        root["lobby"].traits_obj.mood = "calm"
    return image


def thought(image: Image, mood: str) -> tuple[str, str]:
    """A COMPLETE mission whose thought changed the mood; return its id and the thought's transaction."""
    mission_id = new_id()
    with image.transaction() as root:
        missions.create(root, mission_id=mission_id, text="Feel.", owner=missions.Owner("kernel-1", "i1"))
    with image.transaction(mission=mission_id) as root:
        root["lobby"].traits_obj.mood = mood
        held = missions.ticket(missions.find(root, mission_id))
        missions.complete(root, held, CycleOutcome(outcome="COMPLETE"))
    return mission_id, image.last_tid()


async def test_a_thought_from_before_the_last_pack_is_not_undone(moody: Image) -> None:
    """It is refused with what is wrong, on paper too; nothing is written, and the mission stays COMPLETE."""
    kernel = compatibility.Kernel("kernel-1", "k1", "0.1.0", interface.HOST, interface.IMAGE)
    undo = Inspecting(image=moody, kernel=kernel).handlers()[MissionUndo]
    context = RequestContext(id="r", parent="", sender="console-1", session="s", attempt=0, deadline=0.0)
    mission_id, tid = thought(moody, "wild")
    with moody.transaction() as root:
        note_packed(root, tid)
    before = moody.last_tid()
    for dry_run in (True, False):
        with pytest.raises(RequestFailed, match=f"the time before {tid}: it was packed away") as caught:
            await undo(MissionUndo(mission_id=mission_id, dry_run=dry_run), context)
        assert caught.value.code == "moment_unknown"
    assert moody.last_tid() == before
    with moody.snapshot() as root:
        assert missions.find(root, mission_id).state == "COMPLETE"
        assert root["lobby"].traits_obj.mood == "wild"


def test_the_thoughts_of_two_missions_are_undone_newest_first(moody: Image) -> None:
    """The older one finds what it wrote as it left it, since the newer one was undone."""
    first, _ = thought(moody, "glad")
    second, _ = thought(moody, "wild")
    for mission_id, mood in ((second, "glad"), (first, "calm")):
        with moody.transaction() as root:
            done = missions.undo_thought(root, mission_id)
            assert (done.restored, done.left) == (("lobby.traits_obj",), ())
        with moody.snapshot() as root:
            assert root["lobby"].traits_obj.mood == mood


def test_places_that_were_not_in_memory_have_their_paths(moody: Image) -> None:
    """Also in the mission's record, which tells them again."""
    mission_id, _ = thought(moody, "wild")
    moody.close()
    with open_image(moody.uri) as cold:
        assert cold.run(lambda root: missions.undo_thought(root, mission_id)).restored == ("lobby.traits_obj",)
        with cold.snapshot() as root:
            assert missions.find(root, mission_id).restored == ("lobby.traits_obj",)
