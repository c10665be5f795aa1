"""How long an image of many objects takes to open, and how much memory it takes to browse all of it.

    python benchmarks/image_size.py [--json] [--objects 10000 100000 1000000]

Each size gets an image of its own, made first; then a process of its own opens it (with its index, as after an orderly
end; and without, as after a lost index), reads the lobby, and walks over every object in transactions of a thousand.
The rows say seconds, and megabytes of memory beyond those of the open image.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from BTrees.IOBTree import IOBTree

from batos.uvm import UvmObject, open_image, slots

SIZES = (10_000, 100_000, 1_000_000)
BATCH = 1_000
MEGABYTE = 2**20
WANTED_S = 2.0
"""In which an image of a million objects is to be open."""


@dataclass(frozen=True)
class Row:
    """One size.

    Attributes:
        objects: in the image.
        file_mb: of its file.
        open_s: until the lobby was read, with the index.
        scan_s: the same without the index: the whole file is read.
        browse_s: walking over every object.
        browse_mb: how much the memory grew meanwhile, at most.
        reached: whether it was open in time.
    """

    objects: int
    file_mb: float
    open_s: float
    scan_s: float
    browse_s: float
    browse_mb: float
    reached: bool


def make(path: Path, objects: int) -> None:
    """Make an image with that many objects in a tree."""
    with open_image(f"file://{path}") as image:
        with image.transaction() as root:
            root["many"] = IOBTree()
        for begin in range(0, objects, BATCH):
            with image.transaction() as root:
                root["many"].update(
                    {
                        n: UvmObject(n=n, text="some words of a thought", tags=("a", "b"))
                        for n in range(begin, begin + BATCH)
                    }
                )


def look(path: Path, *, browse: bool) -> dict[str, float]:
    """Open an image in this process; return what it took."""
    began = time.perf_counter()
    with open_image(f"file://{path}") as image:
        with image.snapshot() as root:
            slots(root["lobby"])
            opened_s = time.perf_counter() - began
        process = psutil.Process()
        base = most = process.memory_info().rss
        began = time.perf_counter()
        if browse:
            with image.session() as session:
                place, seen = -1, 0
                while True:
                    found = list(session.begin()["many"].values(place + 1, place + BATCH))
                    if not found:
                        break
                    seen += sum(item.n >= 0 for item in found)
                    place += BATCH
                    session.abort()
                    most = max(most, process.memory_info().rss)
                session.abort()
                assert seen == place + 1, (seen, place)
        return {
            "open_s": opened_s,
            "browse_s": time.perf_counter() - began,
            "browse_mb": (most - base) / MEGABYTE,
        }


def measured(path: Path, *, browse: bool) -> dict[str, float]:
    """Let a process of its own look."""
    arguments = [sys.executable, __file__, "--look", str(path), *(["--browse"] if browse else [])]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(objects: int) -> Row:
    """Return the row of one size."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "live_image.fs"
        make(path, objects)
        with_index = measured(path, browse=True)
        path.with_name(path.name + ".index").unlink()
        without = measured(path, browse=False)
        return Row(
            objects=objects,
            file_mb=round(path.stat().st_size / MEGABYTE, 1),
            open_s=round(with_index["open_s"], 3),
            scan_s=round(without["open_s"], 3),
            browse_s=round(with_index["browse_s"], 2),
            browse_mb=round(with_index["browse_mb"], 1),
            reached=with_index["open_s"] < WANTED_S,
        )


def main() -> int:
    """Measure every size; exit 1 where one was not open in time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--objects", type=int, nargs="+", default=SIZES, help="sizes, multiples of a thousand")
    parser.add_argument("--look", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--browse", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.look is not None:
        print(json.dumps(look(given.look, browse=given.browse)))
        return 0
    rows = [measure(objects) for objects in given.objects]
    if given.json:
        print(json.dumps({"rows": [asdict(row) for row in rows]}))
    else:
        for row in rows:
            opened = f"open in {row.open_s:.2f} s ({row.scan_s:.2f} s without its index)"
            browsed = f"browsed in {row.browse_s:.1f} s with {row.browse_mb:.0f} MB"
            print(f"{row.objects:>9} objects, {row.file_mb:>7} MB: {opened}, {browsed}")
    return 0 if all(row.reached for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
