"""The ports that a fleet listens on: nobody's, and never those of connections."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from batos.vessel import free_ports


def test_no_connection_is_given_one_of_them() -> None:
    """As many as asked for, all different, and below those that the system gives to connections."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        given = [server.getsockname()[1], client.getsockname()[1]]
    found = free_ports(20)
    assert len(set(found)) == 20
    assert max(found) < 30_000 <= min(given)


def test_who_holds_one_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that somebody holds is not among them, whether it listens or not."""
    with socket.socket() as held, socket.socket() as listening:
        numbers = free_ports(2)
        for taken, number in zip((held, listening), numbers, strict=True):
            taken.bind(("127.0.0.1", number))
        listening.listen()
        monkeypatch.setattr("batos.vessel.ports.FIRST", min(numbers))
        monkeypatch.setattr("batos.vessel.ports.LAST", max(numbers))
        between = max(numbers) - min(numbers) - 1
        found = free_ports(min(between, 50))
        assert not set(found) & set(numbers)


def test_where_connections_are_given_all_of_them(tmp_path: Path) -> None:
    """Where the system gives connections nearly every port, ours are of those, too; a foreign address is refused."""
    said = tmp_path / "range"
    said.write_text("1024\t65535\n")
    assert len(set(free_ports(3, connecting=said))) == 3
    assert max(free_ports(3, connecting=tmp_path / "not of this system")) < 30_000
    with pytest.raises(OSError, match="address"):
        free_ports(1, host="192.0.2.1")
