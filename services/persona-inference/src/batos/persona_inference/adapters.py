"""Adapters on their way from the image to the engine."""

from __future__ import annotations

import asyncio
import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from batos.mind import Corrupt, MindError, NotFound, adapters, archive
from batos.persona_inference.errors import AdapterRefused, Transient
from batos.protocol import new_id
from batos.uvm import Image, UvmError, open_image

NAME = re.compile(r"[a-z][a-z0-9_]{0,31}-([0-9a-f]{16})")
"""An adapter's name: a persona and the first digits of its content's hash. It is a folder's name, too."""


@dataclass(frozen=True, slots=True)
class StoredAdapter:
    """An adapter as the image holds it.

    Attributes:
        name: its serving name.
        model_hash: of the base model that it was trained on.
        archive: a tar of peft's two files.
    """

    name: str
    model_hash: str
    archive: bytes


class AdapterSource(Protocol):
    """Where adapters come from."""

    async def bound(self, model_hash: str) -> dict[str, str]:
        """Return persona to adapter for every persona that has one bound on this base model."""

    async def fetch(self, name: str) -> StoredAdapter:
        """Return an adapter.

        Raises:
            AdapterRefused: unknown, or corrupt.
            Transient: the source cannot be reached.
        """


class ImageAdapters:
    """Adapters of the image. Its connection lives in one thread of its own."""

    def __init__(self, uri: str) -> None:
        """Begin without a connection.

        Args:
            uri: where the image is.
        """
        self._uri = uri
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="image")
        self._image: Image | None = None

    async def bound(self, model_hash: str) -> dict[str, str]:
        """See `AdapterSource.bound`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._bound, model_hash)

    async def fetch(self, name: str) -> StoredAdapter:
        """See `AdapterSource.fetch`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._fetch, name)

    async def close(self) -> None:
        """Let go of the image."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    def _bound(self, model_hash: str) -> dict[str, str]:
        try:
            with self._opened().snapshot() as root:
                return adapters.bound(root, model_hash)
        except UvmError as error:
            raise _unreachable(error) from error

    def _fetch(self, name: str) -> StoredAdapter:
        try:
            with self._opened().snapshot() as root:
                record = adapters.get(root, name)
                return StoredAdapter(name, record.model_hash, adapters.content(root, name))
        except NotFound as error:
            raise AdapterRefused("adapter_unknown", name, error.message, error.hint) from error
        except Corrupt as error:
            raise AdapterRefused("adapter_corrupt", name, error.message, error.hint) from error
        except MindError as error:
            raise AdapterRefused("adapter_unknown", name, error.message, error.hint) from error
        except UvmError as error:
            raise _unreachable(error) from error
        except (KeyError, OSError) as error:
            # A record or a blob's file that is gone; the next one reads through a fresh connection.
            self._close()
            raise AdapterRefused(
                "adapter_corrupt",
                name,
                f"the image names adapter {name}, but its bytes cannot be read: {type(error).__name__} {error}",
                "restore the image's blobs from a backup, or roll the persona back",
            ) from error

    def _opened(self) -> Image:
        if self._image is None:
            self._image = open_image(self._uri, read_only=True)
        return self._image

    def _close(self) -> None:
        image, self._image = self._image, None
        if image is not None:
            image.close()


def _unreachable(error: UvmError) -> Transient:
    return Transient("image_unreachable", f"adapters cannot be read from the image: {error}", "see `batos status`")


class AdapterShelf:
    """Adapters as folders on disk, where engines read them."""

    def __init__(self, folder: Path) -> None:
        """Begin.

        Args:
            folder: holds one folder an adapter; made when the first one comes.
        """
        self._folder = folder

    def put(self, stored: StoredAdapter, model_hash: str) -> Path:
        """Check an adapter and write its files; return its folder. Blocks.

        Args:
            stored: as it came from the image.
            model_hash: of the engine's base model.

        Raises:
            AdapterRefused: its bytes are not what its name says, or it was trained on another base model.
        """
        check(stored, model_hash)
        try:
            files = archive.unpack(stored.archive)
        except Corrupt as error:
            raise AdapterRefused("adapter_corrupt", stored.name, error.message, error.hint) from error
        folder = self._folder / stored.name
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            target = folder / name
            # Another replica may be reading it: what is right stays, what is not is replaced whole.
            if not target.is_file() or target.read_bytes() != data:
                partial = folder / f".{name}.{new_id()}"
                partial.write_bytes(data)
                partial.replace(target)
        return folder


def check(stored: StoredAdapter, model_hash: str) -> None:
    """Check that an adapter is what its name says, and this base model's; raises as `AdapterShelf.put`."""
    named = NAME.fullmatch(stored.name)
    digest = hashlib.sha256(stored.archive).hexdigest()
    if named is None or not digest.startswith(named.group(1)):
        raise AdapterRefused(
            "adapter_corrupt",
            stored.name,
            f"the bytes of adapter {stored.name} have the hash {digest[:16]}…",
            "restore the image's blobs from a backup, or roll the persona back",
        )
    if stored.model_hash != model_hash:
        raise AdapterRefused(
            "adapter_foreign",
            stored.name,
            f"adapter {stored.name} was trained on base model {stored.model_hash[:16]}…, not on {model_hash[:16]}…",
            "ask for one that was trained on this model, or for the base model",
        )
