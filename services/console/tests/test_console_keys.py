"""`batos keys make`: a folder a role, with what it needs and no more."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from batos.console.errors import ConsoleError
from batos.console.keys import ROLES, make_keys
from batos.protocol import KeyRing
from batos.uvm.tls import client_context, server_context

CLIENT = {"image-ca.pem", "image-client.pem", "image-client.key"}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_each_role_gets_what_it_needs_and_no_more(tmp_path: Path) -> None:
    """Nobody but the bus sees other roles' keys, nobody but the image its server's key."""
    make_keys(tmp_path)
    found = {role: {path.name for path in (tmp_path / role).iterdir()} for role in ROLES}
    own = {role: {f"{role}.secret", f"{role}.public", "bus.public"} for role in ROLES}
    assert found == {
        "bus": {"bus.secret", *(f"{role}.public" for role in ROLES)},
        "image": own["image"] | CLIENT | {"image-server.pem", "image-server.key"},
        "kernel": own["kernel"] | CLIENT | {"redaction.key"},
        "inference": own["inference"] | CLIENT,
        "curator": own["curator"] | CLIENT,
        "forge": own["forge"] | CLIENT,
        "supervisor": own["supervisor"],
        "console": own["console"],
    }


def test_the_keys_belong_together(tmp_path: Path) -> None:
    """The bus admits every role by its key, every role knows the bus, the image and its clients share an authority."""
    make_keys(tmp_path, ["image.example.net"])
    admitted = KeyRing(tmp_path / "bus", provided=True).known()
    for role in ROLES:
        ring = KeyRing(tmp_path / role, provided=True)
        assert ring.ensure(role).public in admitted
        assert ring.public("bus") == KeyRing(tmp_path / "bus", provided=True).ensure("bus").public
    server_context(tmp_path / "image")
    client_context(tmp_path / "curator")
    assert len({(tmp_path / role / "image-ca.pem").read_bytes() for role in ("image", "kernel", "forge")}) == 1


def test_they_are_their_owners_only(tmp_path: Path) -> None:
    """Files 0600 in folders 0700."""
    make_keys(tmp_path / "keys")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "keys").rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert {stat.S_IMODE((tmp_path / "keys" / role).stat().st_mode) for role in ROLES} == {0o700}


def test_a_second_call_changes_nothing(tmp_path: Path) -> None:
    """What is there is kept, and nothing is said to have been written."""
    assert len(make_keys(tmp_path)) == len(files(tmp_path))
    before = files(tmp_path)
    assert make_keys(tmp_path) == []
    assert files(tmp_path) == before


def test_what_is_missing_is_made(tmp_path: Path) -> None:
    """A role without its pair gets a new one, and the bus admits that; certificates are made anew all together."""
    make_keys(tmp_path)
    before = files(tmp_path)
    for name in ("curator/curator.secret", "curator/curator.public", "forge/image-client.pem"):
        (tmp_path / name).unlink()
    changed = {str(path.relative_to(tmp_path)) for path in make_keys(tmp_path)}
    assert {"curator/curator.secret", "bus/curator.public", "image/image-server.pem"} <= changed
    after = files(tmp_path)
    assert after["bus/curator.public"] == after["curator/curator.public"] != before["curator/curator.public"]
    assert after["kernel/kernel.secret"] == before["kernel/kernel.secret"]
    assert after["kernel/redaction.key"] == before["kernel/redaction.key"]
    client_context(tmp_path / "forge")


def test_a_host_that_the_certificate_does_not_name(tmp_path: Path) -> None:
    """Nothing is made anew behind the back of vessels that run: the sentence says what to remove."""
    make_keys(tmp_path, ["a.example.net"])
    assert make_keys(tmp_path, ["a.example.net"]) == []
    with pytest.raises(ConsoleError, match=r"does not name b\.example\.net.*remove it") as caught:
        make_keys(tmp_path, ["b.example.net"])
    assert caught.value.code == "keys_hosts"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """One sentence that names it."""
    (tmp_path / "keys").write_text("a file")
    with pytest.raises(ConsoleError, match="cannot be written"):
        make_keys(tmp_path / "keys")
