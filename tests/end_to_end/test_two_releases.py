"""Two releases of the kernel on one image: a roll from one to the next, an upgrade in its middle, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import next_release
import pytest
from local_fleet import Fleet, running, wait_for

pytestmark = [pytest.mark.model, pytest.mark.timeout(900)]

IDLE = "lobby.psm_prototypes_obj.IDLE._process_synthesis_"


@dataclass(frozen=True)
class Rolling:
    """A fleet, and the folder in which kernels that start look for their program first."""

    fleet: Fleet
    folder: Path

    def releases(self) -> dict[str, str]:
        return {name: one["version"] for name, one in self.fleet.vessels().items() if name.startswith("kernel-")}

    def roll(self, name: str) -> None:
        rolled = self.fleet.run("roll", name, timeout=300)
        assert rolled.returncode == 0, f"{rolled.stdout}\n{rolled.stderr}"

    def greeted(self, mission: str) -> bool:
        """Whether the method that the next release ships thought about a mission."""
        return any(
            record["mission_id"] == mission and record["detail"].get("greeting") == next_release.GREETING
            for record in self.fleet.records()
        )

    def asked(self, count: int) -> list[dict[str, Any]]:
        answers = self.fleet.ask_many([f"Name {number} things that float." for number in range(2, 2 + count)])
        assert {answer["outcome"] for answer in answers} == {"COMPLETE"}, answers
        return [self.fleet.json("mission", "show", answer["mission_id"]) for answer in answers]


@pytest.fixture(scope="module")
def rolling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rolling]:
    """A fleet of this release, whose kernels take one mission at a time, so that two missions need two kernels."""
    folder = tmp_path_factory.mktemp("release") / "next"
    settings = {"PYTHONPATH": str(folder), "BATOS_KERNEL_SLOTS": "1", "BATOS_KERNEL_GENESIS_AFTER_S": "3600"}
    with running(Fleet(tmp_path_factory.mktemp("home") / "var", settings)) as fleet:
        yield Rolling(fleet, folder)


def test_a_fleet_is_rolled_to_the_next_release_and_back(rolling: Rolling, tmp_path: Path) -> None:
    """Both releases think on one image; what only one of them serves waits for the last kernel, on the way back too."""
    forth(rolling, tmp_path / "greet.py")
    back(rolling)


def forth(rolling: Rolling, source: Path) -> None:
    fleet = rolling.fleet
    first = rolling.releases()["kernel-1"]
    next_release.install(rolling.folder)
    rolling.roll("kernel-1")
    assert rolling.releases() == {"kernel-1": next_release.VERSION, "kernel-2": first}
    missions = rolling.asked(4)
    assert {mission["kernel"] for mission in missions} == {"kernel-1", "kernel-2"}

    source.write_text(f"HOST = {next_release.NEWEST}\n\n\ndef greet_(self, host):\n    host.greet()\n")
    before = fleet.json("image", "show", IDLE)["tid"]
    for refused in (
        fleet.run("image", "upgrade"),
        fleet.run("image", "upgrade", "--dry-run"),
        fleet.run("image", "install", "lobby.traits_obj.greet_", str(source)),
    ):
        assert refused.returncode == 1, f"{refused.stdout}\n{refused.stderr}"
        assert f"needs host interface {next_release.NEWEST}" in refused.stderr
        assert f"kernel-2 (release {first})" in refused.stderr
        assert "batos roll kernel" in refused.stderr
    assert fleet.json("image", "show", IDLE)["tid"] == before

    rolling.roll("kernel-2")
    assert set(rolling.releases().values()) == {next_release.VERSION}
    upgraded = fleet.json("image", "upgrade")
    assert [(one["path"], one["outcome"]) for one in upgraded["methods"]] == [(IDLE, "replaced")]
    assert all(rolling.greeted(mission["mission_id"]) for mission in rolling.asked(2))


def back(rolling: Rolling) -> None:
    """An older kernel does not awaken on a method that it does not serve, and the one it was to replace stays."""
    fleet = rolling.fleet
    next_release.uninstall(rolling.folder)
    refused = fleet.run("roll", "kernel-1", "--timeout", "20", timeout=120)
    assert refused.returncode == 1, f"{refused.stdout}\n{refused.stderr}"
    assert f"needs host interface {next_release.NEWEST}" in refused.stdout + refused.stderr
    wait_for("the successor to go", lambda: rolling.releases()["kernel-1"] == next_release.VERSION)
    assert rolling.greeted(rolling.asked(1)[0]["mission_id"])

    assert [version["number"] for version in fleet.json("image", "versions", IDLE)["versions"]] == [1, 2]
    fleet.json("image", "revert", IDLE, "1")
    for name in ("kernel-1", "kernel-2"):
        rolling.roll(name)
    assert next_release.VERSION not in rolling.releases().values()
    assert not rolling.greeted(rolling.asked(1)[0]["mission_id"])
