"""A second release of the kernel, made of this one: its host serves one version more and one less."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from local_fleet import CHECKOUT

from batos.kernel import interface

VERSION = "9.9.0"
NEWEST = interface.HOST.newest + 1
GREETING = "Greetings from the next release."
"""What the method that this release ships for IDLE writes into the log, by a new function of the host."""


def install(folder: Path) -> None:
    """Put the next release where a `PYTHONPATH` leads to: every kernel that starts from now on is of it."""
    package = folder / "batos" / "kernel"
    shutil.copytree(
        CHECKOUT / "services/kernel/src/batos/kernel", package, ignore=shutil.ignore_patterns("__pycache__")
    )
    replace(package / "interface.py", r"HOST = Span\(.*\)", f"HOST = Span({NEWEST - 1}, {NEWEST})")
    replace(
        package / "host.py",
        r"    # -+ telling\n",
        f"    def greet(self):\n        self.record('ARTIFACT_GENERATED', greeting={GREETING!r})\n\n",
    )
    replace(package / "genesis/methods/idle.py", r"HOST = \d+", f"HOST = {NEWEST}")
    replace(
        package / "genesis/methods/idle.py",
        r"    text = host\.mission_text",
        "    host.greet()\n    text = host.mission_text",
    )
    about = folder / f"batos_kernel-{VERSION}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: batos-kernel\nVersion: {VERSION}\n")


def uninstall(folder: Path) -> None:
    """Take it away again: kernels that start from now on are of the release before."""
    shutil.rmtree(folder)


def replace(path: Path, pattern: str, by: str) -> None:
    text, count = re.subn(pattern, lambda _: by, path.read_text(), count=1)
    assert count == 1, f"{path.name} has nothing like {pattern}"
    path.write_text(text)
