"""`batos image pack` and pins on a real bus and image: while others commit, by schedule, killed half-way."""

from __future__ import annotations

import asyncio
import datetime as dt
import os

import pytest
import ZEO
from integration.image_fixtures import Care, committing, fill, names, rewritten
from integration.image_process import until
from ZODB.POSException import StorageError

from batos.kernel.inspecting import Inspecting
from batos.protocol import ImageShow, PlaceView, RequestContext, RequestFailed
from batos.uvm import Image, NoSuchMoment, open_image

pytestmark = pytest.mark.timeout(180)


def test_pack_heeds_pins_while_others_commit(awakened: Care) -> None:
    """What was reclaimed is said, the pinned moment can be looked at afterwards, what lies before it is gone."""
    with open_image(awakened.uri) as opened:
        tids = [rewritten(opened, str(number) * 50_000) for number in range(6)]
    pinned = awakened.json("image", "pin", "third", "--at", tids[2], "--reason", "a test")["pins"]
    assert [(pin["name"], pin["tid"], pin["reason"], pin["by"]) for pin in pinned] == [
        ("third", tids[2], "a test", "architect")
    ]
    assert "third" in awakened.run("image", "pins").stdout
    with committing(awakened.uri) as acknowledged:
        before = len(acknowledged)
        packed = awakened.json("image", "pack", "--days", "0")
        until("commits after the pack", lambda: len(acknowledged) > before)
    assert packed["held_by"] == "third"
    assert packed["bytes_before"] > packed["bytes_after"] + 50_000
    with open_image(awakened.uri) as opened:
        with opened.at(tids[2]) as root:
            assert root["things"]["n1"].text == "2" * 50_000
        with pytest.raises((NoSuchMoment, KeyError, StorageError)), opened.at(tids[0]) as root:
            assert root["things"]["n1"].text == "0" * 50_000
        with opened.snapshot() as root:
            assert {f"c{number}" for number in acknowledged} <= set(root["things"])
    assert awakened.json("image", "unpin", "third")["pins"] == []
    assert awakened.run("image", "unpin", "third").returncode == 1
    said = awakened.run("image", "pack", "--days", "0")
    assert said.returncode == 0
    assert "given back: " in said.stdout
    assert awakened.json("image", "verify")["faults_found"] == 0


def test_what_lies_before_the_last_pack_is_refused(awakened: Care) -> None:
    """By transaction and by time, also of what has not changed since; from then on everything is shown as it was."""
    with open_image(awakened.uri) as opened:
        before, time_before = rewritten(opened, "before"), dt.datetime.now(dt.UTC).isoformat()
        kept = rewritten(opened, "kept")
        packed = awakened.json("image", "pack", "--days", "0")
        assert packed["earliest"] == kept
        later = rewritten(opened, "later")
        for path in ("things['n1']", "lobby.brick_prototype_obj"):
            for at in (before, time_before, "2001-01-01T00:00:00+00:00"):
                with pytest.raises(RequestFailed, match="packed away") as caught:
                    shown(opened, path, at)
                assert caught.value.code == "moment_unknown"
            assert shown(opened, path, later).as_of == later
        assert shown(opened, "things['n1'].text", kept).text == "kept"
        assert awakened.json("image", "pack", "--days", "0")["earliest"] > kept
    late = awakened.run("image", "pin", "too late", "--at", kept)
    assert late.returncode == 2
    assert "packed away" in late.stderr


def shown(opened: Image, path: str, at: str) -> PlaceView:
    """What a kernel answers who is asked to show a place."""
    inspecting = Inspecting(image=opened, kernel="kernel-1")
    context = RequestContext(id="r", parent="", sender="console-1", session="s", attempt=0, deadline=0.0)
    found = asyncio.run(inspecting.handlers()[ImageShow](ImageShow(path=path, at=at), context))
    assert isinstance(found, PlaceView)
    return found


def test_clients_cannot_pack(awakened: Care) -> None:
    """A pack asked for over ZEO would pass pins: it is refused with the command that does not."""
    database = ZEO.DB(str(awakened.home / "run" / "image.sock"))
    try:
        with pytest.raises(StorageError, match="batos image pack"):
            database.pack()
    finally:
        database.close()


def test_pack_by_schedule(care: Care) -> None:
    """The vessel packs by itself; 0 hours means never."""
    care.up(BATOS_IMAGE_PACK_EVERY_H="0.0002", BATOS_IMAGE_PACK_DAYS="0")
    with open_image(care.uri) as opened:
        for number in range(5):
            opened.run(lambda root, number=number: setattr(root["lobby"], "number", number))
        until("a pack", lambda: "packed up to" in care.log())
        with opened.snapshot() as root:
            assert root["lobby"].number == 4


def test_killed_while_it_packs(care: Care) -> None:
    """kill -9 in the middle of a pack: the next start has everything, and packs."""
    care.up()
    with open_image(care.uri) as opened:
        for part in range(10):
            opened.run(lambda root, part=part: fill(root, part))
        pack = care.start("image", "pack", "--days", "0")
        until("the pack", lambda: (care.home / "image" / "live_image.fs.pack").exists() or pack.poll() is not None)
        os.kill(care.image_pid(), 9)
        pack.communicate(timeout=60)
        until("the image to be back", lambda: len(names(care.uri)) == 2000)
    assert care.run("image", "pack", "--days", "0").returncode == 0
    assert not (care.home / "image" / "live_image.fs.pack").exists()
    assert len(names(care.uri)) == 2000
