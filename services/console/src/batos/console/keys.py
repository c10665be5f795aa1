"""`batos keys make`: the keys of a fleet whose vessels do not share a home, one folder a role.

Each folder is mounted in the vessels of its role and holds what they need and no more: the role's own CURVE pair and
the bus's public key; for those who open the image a client's certificate; for the image the server's as well; for the
bus the public keys of all whom it admits; for kernels the key with which secrets are redacted in their logs.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from cryptography import x509

from batos.console.errors import ConsoleError
from batos.protocol import KeyRing, new_id
from batos.uvm.certificates import ImageCertificates, make_certificates
from batos.uvm.tls import CA, CERTIFICATE_SUFFIX, CLIENT, KEY_SUFFIX, SERVER

BUS, IMAGE, KERNEL = "bus", "image", "kernel"
IMAGE_CLIENTS = (IMAGE, KERNEL, "inference", "curator", "forge")
"""Roles that open the image; the image itself does so to look whether it answers."""
ROLES = (BUS, *IMAGE_CLIENTS, "supervisor", "console")
REDACTION_KEY = "redaction.key"
REDACTION_KEY_BYTES = 32
HOSTS = ("image", "localhost", "127.0.0.1")
"""Under which the image is always reached: by its name in the fleet, and by itself."""
FOLDER_MODE = 0o700
FILE_MODE = 0o600


def make_keys(folder: Path, hosts: Iterable[str] = ()) -> list[Path]:
    """Make what is missing of a fleet's keys; return the files that were written, in order.

    Args:
        folder: where each role gets a folder of its own.
        hosts: further names under which the image is reached.

    Raises:
        ConsoleError: the image's certificate is there and knows one of these names not, or a file cannot be written.
        BadKey: a file is no key.
    """
    wanted = tuple(dict.fromkeys((*HOSTS, *hosts)))
    try:
        return _Making(folder).run(wanted)
    except OSError as error:
        raise ConsoleError(
            "keys_unwritable",
            f"{error.filename or folder} cannot be written: {error.strerror}",
            "let this user own the folder, or name another",
        ) from error


class _Making:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: list[Path] = []

    def run(self, hosts: tuple[str, ...]) -> list[Path]:
        publics = {role: self._pair(role) for role in ROLES}
        for role, public in publics.items():
            self._put(BUS, f"{role}.public", public)
            self._put(role, f"{BUS}.public", publics[BUS])
        if not (self._folder / KERNEL / REDACTION_KEY).exists():
            self._put(KERNEL, REDACTION_KEY, secrets.token_bytes(REDACTION_KEY_BYTES))
        self._certificates(hosts)
        return self._written

    def _pair(self, role: str) -> bytes:
        path = self._folder / role / f"{role}.secret"
        is_new = not path.exists()
        pair = KeyRing(path.parent).ensure(role)
        if is_new:
            self._written += [path, path.with_suffix(".public")]
        return f"{pair.public}\n".encode("ascii")

    def _certificates(self, hosts: tuple[str, ...]) -> None:
        names = {role: _certificate_names(role) for role in IMAGE_CLIENTS}
        there = [(self._folder / role / name).exists() for role, of_role in names.items() for name in of_role]
        if all(there):
            _check_hosts(self._folder / IMAGE / f"{SERVER}{CERTIFICATE_SUFFIX}", hosts)
            return
        contents = _contents(make_certificates(hosts))
        for role, of_role in names.items():
            for name in of_role:
                self._put(role, name, contents[name])

    def _put(self, role: str, name: str, content: bytes) -> None:
        """Write a file whole or not at all, unless it already has this content."""
        path = self._folder / role / name
        path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        if path.exists() and path.read_bytes() == content:
            return
        temporary = path.with_name(f".{name}.{new_id()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        if path not in self._written:
            self._written.append(path)


def _certificate_names(role: str) -> tuple[str, ...]:
    owners = (SERVER, CLIENT) if role == IMAGE else (CLIENT,)
    return (CA, *(f"{owner}{suffix}" for owner in owners for suffix in (CERTIFICATE_SUFFIX, KEY_SUFFIX)))


def _contents(made: ImageCertificates) -> Mapping[str, bytes]:
    issued = {SERVER: made.server, CLIENT: made.client}
    return {
        CA: made.authority,
        **{f"{owner}{CERTIFICATE_SUFFIX}": pair.certificate for owner, pair in issued.items()},
        **{f"{owner}{KEY_SUFFIX}": pair.key for owner, pair in issued.items()},
    }


def _check_hosts(path: Path, hosts: tuple[str, ...]) -> None:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound) as error:
        raise ConsoleError(
            "keys_certificate", f"{path} is no certificate of an image: {error}", "remove it, then call this again"
        ) from error
    known = {str(name.value) for name in named}
    missing = [host for host in hosts if host not in known]
    if missing:
        raise ConsoleError(
            "keys_hosts",
            f"{path} is there and does not name {', '.join(missing)}, but {', '.join(sorted(known))}",
            "remove it, then call this again: every certificate is made anew, and the vessels have to be restarted",
        )
