"""`batos image migrate`: what it asks, says and shows, and with which exit codes it ends."""

from __future__ import annotations

import io
import json

import pytest
from console_fake_fleet import FakeFleet
from rich.console import Console
from typer.testing import CliRunner

from batos.console import migrating
from batos.console.commands import app
from batos.console.show import Screen
from batos.protocol import ImageMigrate, ImageMigrated, Message, MigrationView, RemoteError

WHOLE = MigrationView(number=2, title="missions with every slot", looked=10_000, changed=9_800, total=10_000)
DONE = ImageMigrated(before=1, version=2, newest=2, migrations=(WHOLE,))


def test_what_was_done(fleet: FakeFleet, runner: CliRunner) -> None:
    """In words and as one object; where it went on, that too."""
    fleet.answers[ImageMigrate] = DONE
    done = runner.invoke(app, ["image", "migrate"])
    assert done.exit_code == 0
    for words in ("missions with every slot", "10,000", "9,800", "the image has version 2 now; it had 1"):
        assert words in done.stdout
    found = json.loads(runner.invoke(app, ["image", "migrate", "--json"]).stdout)
    assert (found["before"], found["version"], found["migrations"][0]["changed"]) == (1, 2, 9_800)
    (first, second) = fleet.bodies(ImageMigrate)
    assert (first.dry_run, len(first.request_id), first.request_id != second.request_id) == (False, 32, True)
    resumed = MigrationView(number=2, title="t", looked=10_000, changed=9_800, looked_before=4_200)
    fleet.answers[ImageMigrate] = ImageMigrated(before=1, version=2, newest=2, migrations=(resumed,))
    assert "gone on with at 4,200" in runner.invoke(app, ["image", "migrate"]).stdout


def test_nothing_to_do(fleet: FakeFleet, runner: CliRunner) -> None:
    """That is no failure."""
    fleet.answers[ImageMigrate] = ImageMigrated(before=2, version=2, newest=2)
    done = runner.invoke(app, ["image", "migrate"])
    assert (done.exit_code, done.stdout) == (
        0, "nothing to do: the image has version 2, the newest that these kernels know\n",
    )  # fmt: skip


@pytest.mark.parametrize("against", ["", "image version 2 is needed, and kernel-1 serves 1"])
def test_dry_run(fleet: FakeFleet, runner: CliRunner, against: str) -> None:
    """What each would change, as far as it can be counted; what stands against it fails the command."""
    later = MigrationView(number=3, title="later", looked=0, changed=None)
    fleet.answers[ImageMigrate] = ImageMigrated(
        before=1, version=1, newest=3, migrations=(WHOLE, later), against=against, dry_run=True
    )
    done = runner.invoke(app, ["image", "migrate", "--dry-run"])
    assert done.exit_code == (1 if against else 0)
    assert fleet.bodies(ImageMigrate)[0].dry_run
    for words in ("would change", "9,800", "counted once those before", "would get 3; nothing was written"):
        assert words in done.stdout
    assert ("it would be refused: image version 2" in done.stderr) == bool(against)


def test_refused(fleet: FakeFleet, runner: CliRunner) -> None:
    """With who is at it, and what to do."""
    fleet.answers[ImageMigrate] = RemoteError(
        "migration_runs", "kernel-1 is migrating the image to version 2: 4,200 of 10,000", "wait until it has ended"
    )
    done = runner.invoke(app, ["image", "migrate"])
    assert done.exit_code == 1
    assert "kernel-1 is migrating the image to version 2: 4,200 of 10,000" in done.stderr
    assert "wait until it has ended" in done.stderr
    assert runner.invoke(app, ["image", "migrate", "--wet-run"]).exit_code == 2


async def test_progress_is_listened_to(fleet: FakeFleet) -> None:
    """On the topic of the very request, before it is made."""
    out = io.StringIO()
    console = Console(file=out, width=120, markup=False, highlight=False, emoji=False)
    heard: list[tuple[str, ...]] = []

    def answer(body: ImageMigrate) -> Message:
        heard.extend(topics for topics, _ in fleet._listeners)
        assert heard == [(f"progress/migrate/{body.request_id}",)]
        return DONE

    fleet.answers[ImageMigrate] = answer
    assert await migrating.migrate(fleet, Screen(out=console, err=console), dry_run=False, timeout_s=5) == 0
    assert "9,800" in out.getvalue()
