"""Numbered migrations of the image: dry run, one runner at a time, gone on with where one was killed.

A `Migration` leads from the version before its number to its number. `Runner` does what an image still needs, batch by
batch while kernels work on; `rehearse` says what it would do. `progress` tells how far it is.
"""

from batos.mind.migrations.migration import START, Cursor, Migration, Migrations, Step
from batos.mind.migrations.progress import (
    MIGRATION,
    NOBODY,
    MigrationRuns,
    Owner,
    Progress,
    Superseded,
    progress,
)
from batos.mind.migrations.rehearsal import Expected, rehearse
from batos.mind.migrations.running import LEASE_S, MigrationFailed, Ran, Runner, Stopped, Tell
from batos.mind.migrations.walking import count, walk

__all__ = [
    "LEASE_S",
    "MIGRATION",
    "NOBODY",
    "START",
    "Cursor",
    "Expected",
    "Migration",
    "MigrationFailed",
    "MigrationRuns",
    "Migrations",
    "Owner",
    "Progress",
    "Ran",
    "Runner",
    "Step",
    "Stopped",
    "Superseded",
    "Tell",
    "count",
    "progress",
    "rehearse",
    "walk",
]
