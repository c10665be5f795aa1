"""How fast the image's objects are read and called, against plain Python objects in the same run.

    python benchmarks/uvm_read.py [--json]

Plain and image are timed in turns; a row is the median of the rounds' ratios, low and high are its outer deciles.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import timeit
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from batos.uvm import UvmObject, install_method, open_image

DEPTH = 6
LOOPS = 200_000
ROUNDS = 15


class Plain:
    """What the image's objects are measured against."""

    def __init__(self) -> None:
        self.width = 3

    def area(self, factor: int) -> int:
        """The same work as the live method's."""
        return self.width * factor + 1


@dataclass(frozen=True)
class Row:
    """One line of the results: `ratio` times as slow as plain Python, at most `target` wanted."""

    name: str
    ratio: float
    low: float
    high: float
    target: float
    reached: bool


@contextmanager
def leaf() -> Iterator[Any]:
    """A stored object whose slots and methods stand `DEPTH` parents up."""
    with tempfile.TemporaryDirectory() as folder, open_image(f"file://{folder}/live_image.fs") as image:
        with image.transaction() as root:
            top = UvmObject(width=3)
            install_method(
                top, "area", "def area(self, factor):\n    return self.width * factor + 1\n", author="genesis"
            )
            chain = top
            for place in range(DEPTH):
                chain = UvmObject([chain], **{f"own{place}": place})
            root["lobby"].leaf = chain
        with image.snapshot() as root:
            yield root["lobby"].leaf


def measured(name: str, statement: str, plain: object, ours: object, target: float) -> Row:
    """Time one statement on `x` for both, in turns."""
    ratios = []
    for _ in range(ROUNDS):
        base, here = (
            timeit.timeit(statement, globals={"x": x}, number=LOOPS, timer=time.thread_time) for x in (plain, ours)
        )
        ratios.append(here / base)
    ratio = statistics.median(ratios)
    deciles = statistics.quantiles(ratios, n=10)
    return Row(name, round(ratio, 2), round(deciles[0], 2), round(deciles[-1], 2), target, ratio <= target)


def rows() -> list[Row]:
    """The rows of the design's table that this library answers for."""
    plain = Plain()
    with leaf() as obj:
        assert obj.width == plain.width
        assert obj.area(2) == plain.area(2)
        return [
            measured(f"warm slot read, parents {DEPTH} deep", "x.width", plain, obj, 5.0),
            measured("call of a genesis live method", "x.area(2)", plain, obj, 5.0),
        ]


def main() -> int:
    """Print the rows; 0 where every target is reached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="one JSON object with rows[]")
    found = rows()
    if parser.parse_args().json:
        print(json.dumps({"rows": [asdict(row) for row in found]}, indent=2))
    else:
        for row in found:
            verdict = "reached" if row.reached else "NOT reached"
            print(f"{row.name}: {row.ratio} x plain Python ({row.low} to {row.high}), wanted {row.target} x: {verdict}")
    return 0 if all(row.reached for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
