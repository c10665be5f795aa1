"""`python -m batos.image.care`: care for an image's files and backups in a process of its own.

Backup, backups, restore, verify and look are for the vessel or a command. Of an image in
PostgreSQL, which has no vessel, also pack, pin, unpin and pins.

It says how far it is as JSON Lines on stdout, the last of them the outcome: a reply or an `ErrorReply`. Exit codes: 0
done, 1 refused, and where something is wrong with the image.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from zc.lockfile import LockError, LockFile  # type: ignore[import-untyped]

from batos.image import database
from batos.image.backup import Snapshot, back_up
from batos.image.backup_list import listed, read_all, thinned
from batos.image.errors import CareError
from batos.image.looking import look_unserved
from batos.image.reporting import Reporter
from batos.image.restore import restore
from batos.image.settings import IMAGE_FOLDER, ImageSettings
from batos.image.storage import DATA_FILE
from batos.image.verify import verify
from batos.protocol import ErrorReply, Message
from batos.uvm import BadImageUri, ImageRefused, TlsUnusable, Transient, UvmError
from batos.vessel import FleetFile, FleetNotFound, VesselError, load_settings

NICE = 10
"""It may wait; those who think may not."""


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments say; return the exit code."""
    given = _parser().parse_args(arguments)
    os.nice(NICE)
    try:
        outcome = _done(given, Reporter(given.act, given.id, _say))
    except VesselError as error:
        _say(ErrorReply(code=error.code, message=error.message, hint=error.hint))
        return 1
    except UvmError as error:
        _say(_of_image(error))
        return 1
    _say(outcome)
    return 0


def _of_image(error: UvmError) -> ErrorReply:
    """Return the words for an image that cannot be opened: what is away or called by a wrong name is not damaged."""
    if isinstance(error, Transient):
        helps = "see whether it runs and BATOS_IMAGE_URI names it, and ask again"
        return ErrorReply(code="image_unreachable", message=str(error), hint=helps)
    helps = "look for damage with `batos image verify`"
    if isinstance(error, BadImageUri | ImageRefused | TlsUnusable):
        helps = "correct BATOS_IMAGE_URI, or what lets this client in"
    return ErrorReply(code="image_unusable", message=str(error), hint=helps)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m batos.image.care")
    acts = parser.add_subparsers(dest="act", required=True)
    backup = acts.add_parser("backup")
    backup.add_argument("--image", type=Path, required=True)
    backup.add_argument("--tid", required=True)
    backup.add_argument("--position", type=int, required=True)
    backup.add_argument("--full", action="store_true")
    backup.add_argument("folder", type=Path)
    restoring = acts.add_parser("restore")
    restoring.add_argument("--home", type=Path, required=True)
    restoring.add_argument("--at", default="")
    restoring.add_argument("--image", default="")
    restoring.add_argument("folder", type=Path)
    listing_backups = acts.add_parser("backups")
    kept = listing_backups.add_mutually_exclusive_group()
    kept.add_argument("--keep", type=int)
    kept.add_argument("--days", type=float)
    listing_backups.add_argument("--dry-run", action="store_true")
    listing_backups.add_argument("folder", type=Path)
    verifying = acts.add_parser("verify")
    place = verifying.add_mutually_exclusive_group(required=True)
    place.add_argument("--image", type=Path)
    place.add_argument("--home", type=Path)
    place.add_argument("--backup", type=Path)
    verifying.add_argument("--tid", default="")
    looking = acts.add_parser("look")
    looking.add_argument("--home", type=Path, required=True)
    packing = acts.add_parser("pack")
    packing.add_argument("--days", type=float)
    pinning, unpinning, listing = (acts.add_parser(act) for act in ("pin", "unpin", "pins"))
    for act in (pinning, unpinning):
        act.add_argument("--name", required=True)
    for name in ("--at", "--reason", "--by"):
        pinning.add_argument(name, default="")
    for act in (backup, listing_backups, restoring, verifying, looking, packing, pinning, unpinning, listing):
        act.add_argument("--id", default="")
    return parser


def _done(given: argparse.Namespace, tell: Reporter) -> Message:
    match given.act:
        case "backup":
            return back_up(Snapshot(given.image, given.tid, given.position), given.folder, full=given.full, tell=tell)
        case "restore" | "backups":
            return _of_backups(given, tell)
        case "look":
            return _looked(given.home / IMAGE_FOLDER)
        case "pack" | "pin" | "unpin" | "pins":
            return _of_database(given, tell)
        case _:
            return _verified(given, tell)


def _verified(given: argparse.Namespace, tell: Reporter) -> Message:
    if given.backup is not None:
        return read_all(given.backup, tell)
    if given.home is None:
        return verify(given.image, given.tid, tell)
    with _unserved(given.home / IMAGE_FOLDER) as folder:
        return verify(folder, given.tid, tell)


def _of_backups(given: argparse.Namespace, tell: Reporter) -> Message:
    if given.act == "restore":
        return restore(given.folder, given.home / IMAGE_FOLDER, given.at, tell, of_image=given.image)
    if given.keep is None and given.days is None:
        return listed(given.folder)
    return thinned(given.folder, keep=given.keep, days=given.days, dry_run=given.dry_run, tell=tell)


def _of_database(given: argparse.Namespace, tell: Reporter) -> Message:
    """Care for the database that the settings name; its address has a password, so that it is no argument."""
    settings = load_settings(ImageSettings)
    uri = database.database(settings.image_uri or _written_uri(settings.home))
    match given.act:
        case "pack":
            return database.pack(uri, settings.image_pack_days if given.days is None else given.days, tell)
        case "pin":
            return database.add_pin(uri, given.name, given.at, reason=given.reason, by=given.by)
        case "unpin":
            return database.remove_pin(uri, given.name)
        case _:
            return database.pinned(uri)


def _written_uri(home: Path) -> str:
    try:
        return FleetFile.load(home).image_uri
    except FleetNotFound:
        return ""


def _looked(folder: Path) -> Message:
    """Look at the files as they are, also beside somebody who begins to serve them.

    Raises:
        CareError: this user may not.
    """
    try:
        return look_unserved(folder)
    except OSError as error:
        raise _unreadable(folder, error) from error


def _unreadable(folder: Path, error: OSError) -> CareError:
    return CareError(
        "image_unreadable",
        f"{error.filename or folder} cannot be read: {error.strerror or error}",
        "ask as the user who owns the home",
    )


@contextlib.contextmanager
def _unserved(folder: Path) -> Iterator[Path]:
    """Keep everybody from serving an image while it is looked at.

    Raises:
        CareError: there is no image, this user may not read it, or somebody serves it.
    """
    path = folder / DATA_FILE
    try:
        if not folder.is_dir() or not any(folder.iterdir()):
            raise CareError(
                "image_unknown", f"there is no image in {folder}", "start a fleet with `batos up`, or restore one"
            )
        lock = LockFile(f"{path}.lock")
    except OSError as error:
        raise _unreadable(folder, error) from error
    except LockError:
        raise CareError(
            "image_locked", f"{path} is being served, by a fleet that does not answer", "end it with `batos down`"
        ) from None
    try:
        yield folder
    finally:
        lock.close()


def _say(message: Message) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
