"""What a client with its key may send to a real image vessel: nothing in it runs there."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest
from BTrees.Length import Length
from integration.image_process import image
from ZODB.POSException import ConflictError

from batos.uvm import open_image
from batos.uvm.conformance import Trap, pickled, store_record

pytestmark = pytest.mark.timeout(120)

_SIZE = struct.Struct(">I")


def _sent(client: socket.socket, message: bytes) -> None:
    client.sendall(_SIZE.pack(len(message)) + message)


def _rest(client: socket.socket) -> bytes:
    """All that comes until the other end closes."""
    found = b""
    while piece := client.recv(4096):
        found += piece
    return found


def test_a_message_that_names_a_function_ends_its_connection(tmp_path: Path) -> None:
    """Also one of Python's own, which ZEO would call; other clients go on."""
    trap = tmp_path / "sprung"
    evaluated = f"__import__('os').mkdir({str(trap)!r})".encode()
    call = b"cbuiltins\neval\nX" + struct.pack("<I", len(evaluated)) + evaluated + b"\x85R"
    message = b"\x80\x03(K\x01\x89X\x08\x00\x00\x00register" + call + b"\x85t."
    with image(tmp_path / "h") as vessel:
        vessel.await_ready()
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(vessel.socket)
            _sent(client, b"Z5")
            _sent(client, message)
            assert b"register" not in _rest(client)
        with open_image(f"zeo://{vessel.socket}") as found, found.transaction() as root:
            root["lobby"].n = 1
        assert "builtins.eval" in vessel.words()
    assert not trap.exists()


def test_a_conflict_with_a_foreign_pickle_stays_one(tmp_path: Path) -> None:
    """The vessel, which settles conflicts for its clients, says in its log what it was to load."""
    trap = tmp_path / "sprung"
    with image(tmp_path / "h") as vessel:
        vessel.await_ready()
        with open_image(f"zeo://{vessel.socket}") as found, found.session() as session:
            session.begin()["count"] = Length(1)
            session.commit()
            late = session.begin()
            assert late["count"]() == 1
            with found.transaction() as root:
                root["count"].change(1)
            with pytest.raises(ConflictError):
                store_record(late, late["count"]._p_oid, pickled(Length, Trap(trap)))
        assert "posix.mkdir" in vessel.words()
    assert not trap.exists()
