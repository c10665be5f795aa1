"""An image's files without anybody who serves them, for unit tests of their care."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from BTrees.OOBTree import OOBTree

from batos.image.backup import Snapshot, back_up
from batos.image.packing import Horizon, pack
from batos.image.records import open_at
from batos.image.reporting import untold
from batos.image.restore import restore
from batos.image.storage import open_storage
from batos.image.verify import verify
from batos.protocol import ImageBackedUp, ImagePacked, ImageRestored, ImageVerified
from batos.uvm import Root, UvmObject, open_image, store_blob


@dataclass(frozen=True)
class ImageFiles:
    home: Path

    @property
    def folder(self) -> Path:
        return self.home / "image"

    @property
    def file(self) -> Path:
        return self.folder / "live_image.fs"

    @property
    def backups(self) -> Path:
        return self.home.parent / "backups"

    @property
    def uri(self) -> str:
        return f"file://{self.file}?blob_dir={self.folder / 'blobs'}"

    def change(self, work: Callable[[Root], Any]) -> str:
        """Commit a change; return its transaction."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open_image(self.uri) as image:
            image.run(work)
            return image.last_tid()

    def put(self, name: str, text: str) -> str:
        """Commit an object of this name."""
        return self.change(lambda root: _put(root, name, text, None))

    def put_blob(self, name: str, data: bytes) -> str:
        """Commit an object of this name with a blob."""
        return self.change(lambda root: _put(root, name, name, data))

    def texts(self) -> dict[str, str]:
        """Return what stands in the image."""
        with open_image(self.uri, read_only=True) as image, image.snapshot() as root:
            return {name: thing.text for name, thing in root["things"].items()}

    def snapshot(self) -> Snapshot:
        storage = open_at(self.folder)
        try:
            return Snapshot(self.folder, bytes(storage.lastTransaction()).hex(), storage.getSize())
        finally:
            storage.close()

    def back_up(self, *, full: bool = False, target: Path | None = None) -> ImageBackedUp:
        return back_up(self.snapshot(), target or self.backups, full=full, tell=untold)

    def restored(self, name: str, moment: str = "") -> tuple[ImageFiles, ImageRestored]:
        """Restore into another home."""
        files = ImageFiles(self.home.parent / name)
        return files, restore(self.backups, files.folder, moment, untold)

    def pack(self, until: float) -> ImagePacked:
        storage = open_storage(self.folder)
        try:
            return pack(storage, self.folder, Horizon(until))
        finally:
            storage.close()

    def verify(self) -> ImageVerified:
        return verify(self.folder, "", untold)

    def flip(self, text: bytes, by: bytes) -> int:
        """Put other bytes where these stand, once; return where."""
        content = self.file.read_bytes()
        assert len(text) == len(by)
        assert content.count(text) == 1, content.count(text)
        place = content.index(text)
        self.file.write_bytes(content.replace(text, by))
        return place

    def blob(self) -> Path:
        """Return the only blob."""
        (found,) = self.folder.rglob("*.blob")
        return found


def _put(root: Root, name: str, text: str, data: bytes | None) -> None:
    if "things" not in root:
        root["things"] = OOBTree()
    thing = UvmObject()
    thing.text = text
    if data is not None:
        thing.blob = store_blob(data)
    root["things"][name] = thing
