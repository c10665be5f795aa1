"""Care for the image's files: backup, restore, verify, pack, pins, a look at how they are. Service `image`."""

from __future__ import annotations

import msgspec

from batos.protocol.messages.message import Message


class ImageBackup(Message, frozen=True, kw_only=True):
    """To the image: add a backup to this folder. Progress comes on `progress/backup/<request id>`."""

    request_id: str
    folder: str
    """Absolute, on the image's own machine."""
    full: bool = False
    """Whether a whole one is to be made although one that continues the last would do."""


class ImageBackedUp(Message, frozen=True, kw_only=True):
    """The backup is there, and what was written was read again and has its hashes."""

    name: str
    """Of the backup within its folder."""
    kind: str
    """`full`, `incremental`, or `unchanged`: nothing was committed since the last one, which `name` names."""
    why: str
    """Why it is of this kind."""
    tid: str
    root_hash: str
    objects: int
    blobs: int
    bytes_written: int
    """Of the image's file."""
    blobs_written: int
    blob_bytes_written: int
    duration_ms: int
    missing: tuple[str, ...] = ()
    """Blobs that the image itself lacks or that have another hash than they had, one sentence each."""
    passed_over: tuple[str, ...] = ()
    """Backups in that folder that cannot be read, and why."""


class BackupView(msgspec.Struct, frozen=True, kw_only=True):
    """One backup of a folder."""

    name: str
    restores: bool
    """Whether all that it needs is there, and was as it was written where it was read."""
    why: str = ""
    """Why it cannot be restored."""
    kind: str = ""
    made_at: str = ""
    tid: str = ""
    image: str = ""
    """Which image it is of; empty where it does not say."""
    objects: int = 0
    blobs: int = 0
    bytes: int = 0
    """Of the image's file; blobs are shared."""
    missing: tuple[str, ...] = ()
    """What was wrong with the image's own blobs when it was made."""


class ImageBackups(Message, frozen=True, kw_only=True):
    """The backups of a folder, the oldest state first."""

    folder: str
    backups: tuple[BackupView, ...]
    faults_found: int
    duration_ms: int
    faults: tuple[str, ...] = ()
    """The first of them."""
    bytes_read: int = 0
    """0 where it was only looked whether everything is there."""
    removed: tuple[str, ...] = ()
    """Backups that were taken away, or would be."""
    blobs_removed: int = 0
    bytes_removed: int = 0


class ImageRestored(Message, frozen=True, kw_only=True):
    """An image was made from a backup."""

    name: str
    folder: str
    tid: str
    root_hash: str
    compared: bool
    """Whether the root hash was compared with the backup's own: not where an earlier moment was asked for."""
    objects: int
    blobs: int
    bytes_written: int
    duration_ms: int
    missing: tuple[str, ...] = ()
    """Blobs that the backup itself lacks, one sentence each."""
    passed_over: tuple[str, ...] = ()
    """Backups that could not be used, and why."""


class ImageVerify(Message, frozen=True, kw_only=True):
    """To the image: look at everything. Progress comes on `progress/verify/<request id>`."""

    request_id: str


class ImageFault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong."""

    kind: str
    """`file`, `record`, `class`, `reference`, `blob`, `hash` or `covenant`."""
    message: str
    path: str = ""
    """Where the object stands, for example `lobby.brick_prototype_obj`; empty where it cannot be told."""
    oid: str = ""
    hint: str = ""


class ImageVerified(Message, frozen=True, kw_only=True):
    """What a look at everything found."""

    tid: str
    root_hash: str
    objects: int
    transactions: int
    references: int
    blobs: int
    blobs_compared: int
    """How many blobs a hash was known of: from the last backup."""
    bytes_compared: int
    """How much of the file a hash was known of: from the last backup."""
    contents_compared: int
    """Adapters and parts of data sets that were compared with the hashes in their own records."""
    faults_found: int
    duration_ms: int
    faults: tuple[ImageFault, ...] = ()
    """The first of them."""
    notes: tuple[str, ...] = ()
    """What could not be looked at, and why."""


class ImagePack(Message, frozen=True, kw_only=True):
    """To the image: give back the space of what changed before the horizon. Progress: `progress/pack/<request id>`."""

    request_id: str
    days: float | None = None
    """How long history is kept; None: as the image's settings say."""


class ImagePacked(Message, frozen=True, kw_only=True):
    """What packing reclaimed."""

    horizon: float
    """Every moment from here on can still be looked at."""
    held_by: str
    """The pin that the horizon stays at; empty where none stood in its way."""
    bytes_before: int
    bytes_after: int
    blob_bytes_before: int
    blob_bytes_after: int
    objects_before: int
    objects_after: int
    duration_ms: int
    earliest: str = ""
    """The earliest transaction as of which the image can be looked at; empty where all can."""


class ImagePin(Message, frozen=True, kw_only=True):
    """To the image: never pack this moment away."""

    name: str
    reason: str = ""
    by: str = ""
    at: str = ""
    """A transaction (16 hexadecimal digits), or a time with its zone; empty: now."""


class ImageUnpin(Message, frozen=True, kw_only=True):
    """To the image: forget a pin."""

    name: str


class ImagePinsGet(Message, frozen=True, kw_only=True):
    """To the image: which pins are there?"""


class PinView(msgspec.Struct, frozen=True, kw_only=True):
    """One pinned moment."""

    name: str
    tid: str
    reason: str
    by: str
    at: float
    """When it was pinned."""


class ImagePins(Message, frozen=True, kw_only=True):
    """All pins, the oldest moment first."""

    pins: tuple[PinView, ...]


class ImageLook(Message, frozen=True, kw_only=True):
    """To the image: how are its files, and what was done for them?"""


class ImageLooked(Message, frozen=True, kw_only=True):
    """How the image's files are. Times are seconds since the epoch; 0: never."""

    file_bytes: int
    blob_bytes: int
    free_bytes: int
    """On the disk of the image's file."""
    oldest_at: float
    """Of the oldest transaction that is kept."""
    backup_at: float = 0.0
    """When the newest backup was made, or last found to have everything."""
    backup_folder: str = ""
    backup_whole: bool = False
    """Whether the last backup has all that is stored: nothing was committed since."""
    packed_at: float = 0.0
    pack_error: str = ""
    """Why the last pack by schedule could not be done; empty where it could, and once a pack was done since."""
    pins: tuple[PinView, ...] = ()
