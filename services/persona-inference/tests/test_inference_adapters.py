from __future__ import annotations

import asyncio
import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from fake_engine import MODEL_HASH, FakeEngine, FakeSource

from batos.mind import adapters, archive, create_collections
from batos.persona_inference.adapters import AdapterShelf, ImageAdapters, StoredAdapter
from batos.persona_inference.desk import AdapterDesk
from batos.persona_inference.errors import AdapterRefused, Transient
from batos.uvm import UvmObject, open_image


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


async def test_bound_adapters_are_loaded_and_bad_ones_are_named(
    engine: FakeEngine, source: FakeSource, tmp_path: Path
) -> None:
    """One corrupt adapter keeps no other one from being loaded."""
    desk = AdapterDesk(engine, source, AdapterShelf(tmp_path), most=4)
    good, bad, other = source.add("brick", 1), source.add("babs", 2), source.add("robin", 3, model_hash="cd" * 32)
    source.bindings = {"BRICK": good, "BABS": bad, "ROBIN": other}
    source.adapters[bad] = StoredAdapter(bad, MODEL_HASH, b"something else")
    failed = await desk.ensure_bound()
    assert engine.loaded == (good,)
    assert {name: error.code for name, error in failed.items()} == {bad: "adapter_corrupt"}


async def test_an_image_that_is_away_is_said(engine: FakeEngine, source: FakeSource, tmp_path: Path) -> None:
    """Nothing is guessed while the bindings cannot be read."""
    desk = AdapterDesk(engine, source, AdapterShelf(tmp_path), most=4)
    source.fault = Transient("image_unreachable", "it is away")
    with pytest.raises(Transient):
        await desk.ensure_bound()


async def test_the_adapter_used_longest_ago_makes_room(engine: FakeEngine, source: FakeSource, tmp_path: Path) -> None:
    """No more adapters than allowed are loaded."""
    desk = AdapterDesk(engine, source, AdapterShelf(tmp_path), most=2)
    first, second, third = (source.add("brick", seed) for seed in (1, 2, 3))
    for name in (first, second, first, third):
        await desk.ensure(name)
    assert set(engine.loaded) == {first, third}
    assert engine.unloads == [second]


async def test_who_stops_waiting_does_not_stop_the_load(engine: FakeEngine, source: FakeSource, tmp_path: Path) -> None:
    """A request that gave up leaves the load to the next one; closing the desk ends it."""
    desk = AdapterDesk(engine, source, AdapterShelf(tmp_path), most=2)
    first, second = source.add("brick", 1), source.add("brick", 2)
    engine.load_gate.clear()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(desk.ensure(first), 0.01)
    engine.load_gate.set()
    await desk.ensure(first)
    assert engine.loads == [first]
    engine.load_gate.clear()
    waiting = asyncio.create_task(desk.ensure(second))
    await asyncio.sleep(0)
    await desk.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_failed_load_is_tried_again(engine: FakeEngine, source: FakeSource, tmp_path: Path) -> None:
    """The next request that names the adapter begins anew."""
    desk = AdapterDesk(engine, source, AdapterShelf(tmp_path), most=2)
    name = source.add("brick", 1)
    source.fault = Transient("image_unreachable", "it is away")
    with pytest.raises(Transient):
        await desk.ensure(name)
    source.fault = None
    await desk.ensure(name)
    assert engine.loaded == (name,)


def test_the_shelf_holds_what_the_archive_holds(source: FakeSource, tmp_path: Path) -> None:
    """Both files are written, and repaired where somebody changed them."""
    name = source.add("brick", 1)
    shelf = AdapterShelf(tmp_path / "adapters")
    folder = shelf.put(source.adapters[name], MODEL_HASH)
    files = archive.unpack(source.adapters[name].archive)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    (folder / archive.WEIGHTS).write_bytes(b"changed")
    assert shelf.put(source.adapters[name], MODEL_HASH) == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


def test_an_archive_that_reaches_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    """A member with a path is corrupt, whatever its hash."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo("../escaped")
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    name = f"brick-{hashlib.sha256(out.getvalue()).hexdigest()[:16]}"
    with pytest.raises(AdapterRefused) as refused:
        AdapterShelf(tmp_path / "adapters").put(StoredAdapter(name, MODEL_HASH, out.getvalue()), MODEL_HASH)
    assert refused.value.code == "adapter_corrupt"
    assert not (tmp_path / "escaped").exists()


async def test_adapters_come_out_of_the_image(source: FakeSource, tmp_path: Path) -> None:
    """Bindings and bytes are read from the image; what it does not hold is unknown."""
    uri = f"file://{tmp_path}/live_image.fs"
    stored = source.adapters[source.add("brick", 1)]
    with open_image(uri) as image, image.transaction() as root:
        create_collections(root)
        name = adapters.add_candidate(
            root,
            persona_name="BRICK",
            model_hash=MODEL_HASH,
            archive=stored.archive,
            gate={"passed": True},
            dataset_id="d",
            dataset_sha256="0" * 64,
            order_id="o",
            training={},
        )
        root["lobby"].brick_prototype_obj = UvmObject(dna={"version": 2, "adapters": {MODEL_HASH: name}})
    image_adapters = ImageAdapters(uri)
    try:
        assert await image_adapters.bound(MODEL_HASH) == {"BRICK": name}
        assert await image_adapters.bound("cd" * 32) == {}
        assert await image_adapters.fetch(name) == StoredAdapter(name, MODEL_HASH, stored.archive)
        with pytest.raises(AdapterRefused) as refused:
            await image_adapters.fetch("brick-0000000000000000")
        assert refused.value.code == "adapter_unknown"
    finally:
        await image_adapters.close()


async def test_an_image_that_is_not_there_is_transient(tmp_path: Path) -> None:
    """It may come: nobody is told that an adapter is unknown."""
    image_adapters = ImageAdapters(f"file://{tmp_path}/nothing.fs")
    try:
        with pytest.raises(Transient) as away:
            await image_adapters.fetch("brick-0000000000000000")
        assert away.value.code == "image_unreachable"
    finally:
        await image_adapters.close()
