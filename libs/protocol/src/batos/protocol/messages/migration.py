"""Bringing the image to the version that a release is made for. Service `kernel`."""

from __future__ import annotations

import msgspec

from batos.protocol.messages.message import Message


class ImageMigrate(Message, frozen=True, kw_only=True):
    """Do every migration that the image still needs, or go on with one. Progress: `progress/migrate/<request id>`."""

    request_id: str
    dry_run: bool = False
    """Whether only to say what would be done."""


class MigrationView(msgspec.Struct, frozen=True, kw_only=True):
    """What a migration did, or would do."""

    number: int
    """The version of the image that it leads to."""
    title: str
    looked: int
    """Objects that were looked at, over all who ran it; in a dry run those that it would still look at."""
    changed: int | None
    """Objects among them that were, or would be, changed; None: shows only when those before it have been done."""
    looked_before: int = 0
    """Objects that had been looked at when it was gone on with."""
    total: int | None = None
    """About how many objects there were to look at when it began; None where nobody knows."""


class ImageMigrated(Message, frozen=True, kw_only=True):
    """What was, or would be, done to the image."""

    before: int
    """The version that the image had."""
    version: int
    """The version that it has."""
    newest: int
    """The newest version that the kernel that answers knows."""
    migrations: tuple[MigrationView, ...] = ()
    against: str = ""
    """Dry run: what stands against it, for example a kernel that would not understand the image any more."""
    dry_run: bool = False
