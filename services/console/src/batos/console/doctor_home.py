"""What can be seen of a home without its fleet: folders and who may read them, environments, disk, log segments."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from batos.console.care import size
from batos.console.findings import Finding, note, well, wrong
from batos.console.settings import ConsoleSettings

PRIVATE = stat.S_IRWXG | stat.S_IRWXO
"""What others than the owner may have on none of these."""
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
RESTORING = ".image-restore"
"""Where a restore works; it takes it away itself, unless it is killed."""
FOLDERS = ("keys", "image", "log")
KEYS = "keys"
LOG = "log"
SEGMENTS = "metacognition*.jsonl"
SHOWN = 5
"""Of files that others may read, by name; the rest is counted."""


def home(settings: ConsoleSettings) -> Iterator[Finding]:
    """The home itself, and the folders in it."""
    folder = settings.home
    if not folder.is_dir():
        yield note("home", f"there is no home at {folder} yet", "batos up")
        return
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield wrong("home", f"this user cannot write in {folder}", f"sudo chown -R $(id -u) {shlex.quote(str(folder))}")
        return
    if _mode(folder) & OTHERS_WRITE:
        yield wrong("home", f"others may write in {folder} ({_mode(folder):04o})", f"chmod go-w {_named(folder)}")
    open_folders = [folder / name for name in FOLDERS if (folder / name).is_dir() and _mode(folder / name) & PRIVATE]
    for path in open_folders:
        yield wrong("home", f"{path} is open to others ({_mode(path):04o}, not 0700)", f"chmod 700 {_named(path)}")
    if not open_folders:
        yield well("home", f"{folder}: its folders are this user's alone")
    left = folder / RESTORING
    if left.is_dir():
        yield note("home", f"{left} is of a restore that was cut off, unless one runs now", f"rm -r {_named(left)}")


def keys(settings: ConsoleSettings) -> Iterator[Finding]:
    """Secret keys: nobody else's to read."""
    provided = settings.keys is not None
    folder = settings.keys or settings.home / KEYS
    refused = stat.S_IRWXO if provided else PRIVATE  # what is handed out may be a group's (a Secret's is)
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix in {".secret", ".key"})
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not provided:
            yield note("keys", f"there are none in {folder} yet: the first start of a fleet makes them", "batos up")
        else:
            yield wrong("keys", f"{folder} cannot be read: {error.strerror}", "batos keys make")
        return
    readable = [path for path in found if _mode(path) & refused]
    for path in readable[:SHOWN]:
        yield wrong("keys", f"{path} is open to others ({_mode(path):04o}, not 0600)", f"chmod 600 {_named(path)}")
    if len(readable) > SHOWN:
        yield wrong("keys", f"and {len(readable) - SHOWN} more keys", f"chmod 600 {_named(folder)}/*.secret")
    if not readable:
        yield well("keys", f"{len(found)} secret keys in {folder}, none is open to others")


def environments(settings: ConsoleSettings) -> Iterator[Finding]:
    """What vessels are started with on this machine."""
    beside = Path(sys.prefix).parent
    yield well("environment", f"core: {sys.prefix}, Python {'.'.join(map(str, sys.version_info[:3]))}")
    inference = settings.inference_env_python or beside / ".venv-inference" / "bin" / "python"
    if inference.exists():
        yield well("environment", f"inference: {inference}")
    else:
        yield wrong("environment", f"inference: there is no Python at {inference}", "make install")
    forge = Path(os.environ.get("BATOS_FORGE_PYTHON") or beside / ".venv-forge" / "bin" / "python")
    if forge.exists():
        yield well("environment", f"forge: {forge}")
    else:
        yield note("environment", f"forge: not made yet ({forge}); the first training makes it")


def disk(folder: Path, free: int, least: int, of: str) -> Finding:
    """How much room a disk has."""
    says = f"{size(free)} free on the disk of {of} ({folder})"
    if free < least:
        return wrong("disk", f"{says}, less than {size(least)}", f"du -xhd1 {_named(folder)}")
    return well("disk", says)


def home_disk(settings: ConsoleSettings, least: int) -> Iterator[Finding]:
    """Room for what the home's vessels write."""
    if settings.home.is_dir():
        yield disk(settings.home, shutil.disk_usage(settings.home).free, least, "the home")


def log_segments(settings: ConsoleSettings) -> Iterator[Finding]:
    """The metacognition logs of the home's kernels."""
    count, total, writers = 0, 0, 0
    for folder in sorted((settings.home / LOG).glob("*/")):
        of_this = 0
        for path in folder.glob(SEGMENTS):
            try:
                seen = path.stat()
            except FileNotFoundError:  # a kernel that runs has renamed it meanwhile
                continue
            mode = stat.S_IMODE(seen.st_mode)
            if mode & PRIVATE:
                yield wrong("log", f"{path} is open to others ({mode:04o}, not 0600)", f"chmod 600 {_named(path)}")
            of_this += 1
            total += seen.st_size
        count += of_this
        writers += bool(of_this)
    if count:
        yield well("log", f"{count} segments of {writers} kernels' metacognition logs, {size(total)}")
    else:
        yield note("log", f"no kernel has written its metacognition log in {settings.home / LOG} yet")


def _mode(path: Path) -> int:
    """Return the permissions of a file; none where it has gone meanwhile."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return 0


def _named(path: Path) -> str:
    return shlex.quote(str(path))
