"""The whole fleet on an image in PostgreSQL: it thinks, a kernel dies, the database restarts, nothing is left."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from integration.postgres_server import PASSWORD, postgres_server
from local_fleet import Fleet, running, wait_for

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]

DATABASE = "living_image"


def test_a_fleet_thinks_in_postgresql(tmp_path: Path) -> None:
    """Missions complete through the loss of a kernel and a restart of the database; no log tells the password."""
    with postgres_server() as server:
        server.database(DATABASE)
        fleet = Fleet(tmp_path / "var", {"BATOS_IMAGE_URI": server.uri(DATABASE)})
        with running(fleet):
            vessels = fleet.vessels()
            assert "image" not in vessels
            assert fleet.json("ask", "What is a tide?")["outcome"] == "COMPLETE"
            asked = fleet.start("ask", "What is a comet?", "--json")
            os.kill(vessels["kernel-1"]["pid"], signal.SIGKILL)
            answer, complaints = asked.communicate(timeout=120)
            assert json.loads(answer)["outcome"] == "COMPLETE", complaints
            server.restart()
            assert fleet.json("ask", "What is rain?")["outcome"] == "COMPLETE"
        wait_for("every vessel's connections to be closed", lambda: server.sessions(DATABASE) == 0, timeout=10)
        logs = list((fleet.home / "log").rglob("*.log*"))
        assert logs
        for log in logs:
            text = log.read_text()
            assert not [part for part in PASSWORD.split() if len(part) > 2 and part in text], log
