"""A program that tells what a new process sees in an image, for the tests; and the way to ask it.

It has the image's code in memory and no image. For every question (a line with an address) it forks a process that
opens the image, tells it as one line of JSON, and ends: new memory each time, without waiting for an interpreter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Sequence
from typing import Any, Self

from batos.uvm import UvmObject, method_history, method_of, open_image, plain, slots, understands

NAMES = ("a", "b", "c", "d")


class Witness:
    """The program, as the test sees it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.communicate()

    def ask(self, uri: str) -> list[dict[str, Any]]:
        """What a new process sees of every object in the lobby's list `all`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(uri.encode() + b"\n")
        self._process.stdin.flush()
        told = json.loads(self._process.stdout.readline())
        assert isinstance(told, list), told
        return told


def tell(uri: str) -> list[dict[str, Any]]:
    """Every object: what each name reads, inherited or not, own slots, parents by place, versions of its methods."""
    with open_image(uri, read_only=True) as image, image.snapshot() as root:
        objects = list(root["lobby"].all)
        return [_told(obj, objects) for obj in objects]


def _told(obj: UvmObject, objects: Sequence[UvmObject]) -> dict[str, Any]:
    own = slots(obj)
    return {
        "reads": {name: _read(obj, name) for name in NAMES if understands(obj, name)},
        "slots": sorted(own),
        "parents": [objects.index(parent) for parent in obj.parents],
        "versions": {name: len(found) for name in NAMES if (found := method_history(obj, name))},
    }


def _read(obj: UvmObject, name: str) -> dict[str, Any]:
    value = getattr(obj, name)
    if not callable(value):
        return {"value": plain(value)}
    return {"returns": value(), "version": method_of(obj, name)[1].source}


def main() -> None:
    """Answer until there are no more questions."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                said: Any = tell(line.strip())
            except BaseException:  # noqa: BLE001 - the test is to show it
                said = {"error": traceback.format_exc()}
            os.write(1, json.dumps(said).encode() + b"\n")
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
