"""A pack that is killed at one of its steps. Run: image_killed_pack.py FOLDER STEP.

A step is something that changes a name or opens a file for writing in the image's folder; the process ends as by
`kill -9` just before it, and says which one that was. Where there are fewer steps the pack is done, and it says how
many there were.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from batos.image.packing import Horizon, pack
from batos.image.storage import open_storage

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate", "open"}


def main(folder: Path, wanted: int) -> None:
    """Pack, and end at that step."""
    step = 0
    storage = open_storage(folder)

    def happens(event: str, given: tuple[Any, ...]) -> None:
        nonlocal step
        if event not in CHANGES or str(folder) not in str(given[0]):
            return
        if event == "open" and not set("wa+") & set(str(given[1])):
            return
        step += 1
        if step == wanted:
            os.write(1, f"{event} {Path(os.fsdecode(given[0])).name}".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(happens)
    pack(storage, folder, Horizon(time.time()))
    os.write(1, f"{step} steps".encode())
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
