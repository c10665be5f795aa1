"""kill -9 at every step of a pack: the next start has a whole image by itself, packed or not."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from image_files import ImageFiles
from integration.image_process import image

from batos.image.records import BlobFolder
from batos.image.saved_index import index_path, is_sealed
from batos.image.storage import open_storage, swap_in
from batos.uvm import NoSuchMoment, open_image

pytestmark = pytest.mark.timeout(300)

KILLED = Path(__file__).with_name("image_killed_pack.py")


@pytest.fixture
def prepared(tmp_path: Path) -> ImageFiles:
    """An image of which a pack gives back former texts, two objects, and two of three blobs."""
    files = ImageFiles(tmp_path / "prepared")
    for number in range(4):
        files.put("first", f"the text of {number} " * 20)
    for name in ("kept", "gone", "gone too"):
        files.put_blob(name, name.encode() * 100)
    files.change(lambda root: [root["things"].__delitem__(name) for name in ("gone", "gone too")])
    files.put("last", "the last of all")
    open_storage(files.folder).close()
    files.back_up()
    return files


def copied(prepared: ImageFiles, name: str) -> ImageFiles:
    files = ImageFiles(prepared.home.parent / name)
    shutil.copytree(prepared.home, files.home)
    return files


def killed(files: ImageFiles, step: int) -> str:
    """Let a process pack and be killed at a step; return at which."""
    done = subprocess.run(
        [sys.executable, str(KILLED), str(files.folder), str(step)], capture_output=True, text=True, check=False
    )
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.stdout


def blobs(files: ImageFiles) -> int:
    return len(list(BlobFolder(files.folder)))


def test_a_pack_that_is_killed(prepared: ImageFiles) -> None:
    """Whenever that is, the next start takes it back or does the rest; then the image packs as any other."""
    texts, size = prepared.texts(), prepared.file.stat().st_size
    (steps, _, _) = killed(copied(prepared, "whole"), 0).partition(" ")
    assert int(steps) > 12
    were: dict[str, set[bool]] = {"packed": set(), "moved": set()}
    for step in range(1, int(steps) + 1):
        files = copied(prepared, f"killed-{step}")
        at = killed(files, step)
        were["moved"].add(not files.file.exists())
        open_storage(files.folder).close()
        is_packed = files.file.stat().st_size < size
        were["packed"].add(is_packed)
        left = {path.name for path in files.folder.iterdir()} & {"live_image.fs.pack", "live_image.fs.old"}
        assert left == set(), at
        assert not (files.folder / "blobs" / ".removed").exists(), at
        assert is_sealed(index_path(files.file)), at
        assert blobs(files) == (1 if is_packed else 3), at
        assert bool(swap_in(files.folder).owed()) == is_packed, at
        assert files.texts() == texts, at
        found = files.verify()
        assert found.faults_found == 0, (at, found.faults)
        assert files.back_up(target=files.home / "backups").objects == found.objects
        open_storage(files.folder).close()
        again = files.pack(files.file.stat().st_mtime + 1)
        assert (again.bytes_after < size, blobs(files), files.texts()) == (True, 1, texts), at
        shutil.rmtree(files.home)
    assert were == {"packed": {True, False}, "moved": {True, False}}


def test_the_image_knows_what_a_killed_pack_left(prepared: ImageFiles) -> None:
    """The next start of its vessel writes it into the image: what was packed away is refused, not shown half."""
    early = prepared.snapshot().tid
    prepared.put("first", "later")
    for step in range(1, 30):
        files = copied(prepared, f"killed-{step}")
        if killed(files, step) == "open live_image.fs":  # the packed file is in its place
            break
    with image(files.home) as server:
        server.await_ready()
        with open_image(f"zeo://{server.socket}?wait_timeout=10") as opened:
            with pytest.raises(NoSuchMoment, match="packed away"), opened.at(early):
                pass
            with opened.snapshot() as root:
                assert root["things"]["first"].text == "later"
    assert swap_in(files.folder).owed() == ""
