"""A process that migrates an image: `python image_migrator.py URI NAME INCARNATION LEASE_S [paced]`.

Prints a JSON object a line: that it begins, how far it is after every batch, how it ended; ends with 1 where it was
refused. Paced, it waits for a line on its standard input within each batch.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from batos.kernel.migrations import WholeMissions
from batos.mind import MindError
from batos.mind.migrations import Cursor, Migration, Migrations, Owner, Progress, Runner, Step
from batos.uvm import Root, open_image


class Counted(WholeMissions):
    """Knows how often a batch was begun, and waits before each where it is paced."""

    steps = 0
    paced = False

    def step(self, root: Root, cursor: Cursor) -> Step:
        """Make some missions whole."""
        self.steps += 1
        if self.paced:
            sys.stdin.readline()
        return super().step(root, cursor)


def say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def tell(_migration: Migration, found: Progress) -> None:
    say(looked=found.looked, batches=found.batches, epoch=found.epoch)


def main(uri: str, name: str, incarnation: str, lease_s: str, paced: str = "") -> int:
    """Migrate and say how it went."""
    migration = Counted()
    migration.paced = bool(paced)
    say(begins=name)
    with open_image(uri) as image:
        runner = Runner(image, Migrations([migration]), Owner(name, incarnation), tell=tell, lease_s=float(lease_s))
        try:
            ran = runner.run()
        except MindError as error:
            say(refused=error.code, message=str(error))
            return 1
    say(
        done=[one.migration.number for one in ran],
        looked_before=[one.looked_before for one in ran],
        changed=[one.ended.changed for one in ran],
        batches=[one.ended.batches for one in ran],
        steps=migration.steps,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
