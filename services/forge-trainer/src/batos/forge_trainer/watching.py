"""Sees files arrive in the order folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from batos.forge_trainer.errors import ForgeError
from batos.forge_trainer.order_files import is_order

END_TIMEOUT_S = 10.0


class FolderWatch:
    """Tells of every order file that was written or moved into a folder, and of those that stood there before."""

    def __init__(self, folder: Path, arrived: Callable[[Path], None]) -> None:
        """Begin without watching.

        Args:
            folder: what is watched; it must exist.
            arrived: is called in the observer's own thread, possibly several times for one file.
        """
        self._folder = folder
        self._handler = _Handler(arrived)
        self._arrived = arrived
        self._observer = Observer()

    def start(self) -> None:
        """Watch from now on, and tell of what stands there already."""
        self._observer.schedule(self._handler, str(self._folder), recursive=False)
        self._observer.start()
        for path in sorted(self._folder.iterdir()):
            if is_order(path):
                self._arrived(path)

    @property
    def alive(self) -> bool:
        """Whether the folder is still watched."""
        return self._observer.is_alive()

    def close(self) -> None:
        """Watch no more; returns when the observer's threads have ended.

        Raises:
            ForgeError: they do not end.
        """
        if not self._observer.is_alive():
            return
        self._observer.stop()
        self._observer.join(END_TIMEOUT_S)
        if self._observer.is_alive():
            raise ForgeError("watch_stuck", f"the observer of {self._folder} did not end within {END_TIMEOUT_S:g} s")


class _Handler(FileSystemEventHandler):
    """Files written in place are told of when they are closed (or changed, where closing cannot be seen)."""

    def __init__(self, arrived: Callable[[Path], None]) -> None:
        self._arrived = arrived

    def on_moved(self, event: FileSystemEvent) -> None:
        self._tell(event.dest_path)

    def on_closed(self, event: FileSystemEvent) -> None:
        self._tell(event.src_path)

    def on_created(self, event: FileSystemEvent) -> None:
        self._tell(event.src_path)

    def on_modified(self, event: FileSystemEvent) -> None:
        if not event.is_directory:
            self._tell(event.src_path)

    def _tell(self, raw: bytes | str) -> None:
        path = Path(os.fsdecode(raw))
        if is_order(path):
            self._arrived(path)
