"""CURVE key pairs: one for each vessel name, made at its first start, kept as z85 text in one folder.

Where keys are handed out instead (containers), a vessel has a folder with its own pair and the bus's public key, and
reads it only.

`<name>.secret` holds the secret key (mode 0600), `<name>.public` the public one. Who has a `.public` file in the bus's
folder is admitted, so a vessel on another machine needs only that one file brought over.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.utils import z85

from batos.protocol.errors import BadKey
from batos.protocol.ids import new_id

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_Z85_LENGTH = 40
_FOLDER_MODE = 0o700
_FILE_MODE = 0o600

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A CURVE key pair in z85 (40 characters each). The secret one stays out of every representation."""

    public: str
    secret: str = field(repr=False)


class KeyRing:
    """The keys in one folder."""

    def __init__(self, folder: Path, *, provided: bool = False) -> None:
        """Begin.

        Args:
            folder: where they are.
            provided: somebody else put them there: nothing is made or changed.
        """
        self.folder = Path(folder)
        self._provided = provided

    def ensure(self, name: str) -> KeyPair:
        """Return the key pair of a name, making it if there is none. Two processes that do so at once get the same.

        Raises:
            BadKey: the name cannot be a file's name, its file does not hold a key, or a provided one is missing or
                can be read by everybody.
        """
        if not _NAME.fullmatch(name):
            raise BadKey("key_name", f"{name!r} cannot name a key", "use up to 64 letters, digits, dots, - and _")
        path = self.folder / f"{name}.secret"
        if self._provided:
            secret_text = _read_provided(path)
            return KeyPair(public=zmq.curve_public(secret_text.encode("ascii")).decode("ascii"), secret=secret_text)
        self.folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        self.folder.chmod(_FOLDER_MODE)
        if not path.exists():
            _, secret = zmq.curve_keypair()
            self._write_once(path, secret.decode("ascii"))
        path.chmod(_FILE_MODE)
        secret_text = _read(path)
        public = zmq.curve_public(secret_text.encode("ascii")).decode("ascii")
        public_path = self.folder / f"{name}.public"
        if not public_path.exists():
            self._write_once(public_path, public)
        elif _read(public_path) != public:
            raise BadKey("key_mismatch", f"{public_path} does not belong to {path}", "remove both to get a new pair")
        return KeyPair(public=public, secret=secret_text)

    def public(self, name: str) -> str:
        """Return the public key of a name.

        Raises:
            BadKey: there is none.
        """
        path = self.folder / f"{name}.public"
        try:
            return _read(path)
        except OSError as error:
            raise _not_provided(path, error) from error

    def known(self) -> set[str]:
        """Return every public key in the folder; a file that holds none is left out, and logged."""
        keys = set()
        for path in self.folder.glob("*.public"):
            try:
                keys.add(_read(path))
            except FileNotFoundError:
                continue  # removed since it was listed
            except BadKey as error:
                _log.warning("not admitted: %s", error)
        return keys

    def _write_once(self, path: Path, text: str) -> None:
        """Write a whole file under its name unless another process was first."""
        temporary = self.folder / f".{path.name}.{new_id()}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(temporary, path)
            except FileExistsError:
                return
        finally:
            temporary.unlink(missing_ok=True)


def _read_provided(path: Path) -> str:
    """Return the secret key that a file holds; refuse one that everybody can read."""
    try:
        if path.stat().st_mode & stat.S_IROTH:
            raise BadKey("key_open", f"{path} can be read by everybody", "let nobody but this vessel read it")
        return _read(path)
    except OSError as error:
        raise _not_provided(path, error) from error


def _not_provided(path: Path, error: OSError) -> BadKey:
    return BadKey(
        "key_missing",
        f"the key {path} cannot be read: {error.strerror}",
        "make the fleet's keys with `batos keys make`, and mount this vessel's folder of them there (BATOS_KEYS)",
    )


def _read(path: Path) -> str:
    """Return the key that a file holds."""
    try:
        text = path.read_text(encoding="ascii").strip()
        if len(text) == _Z85_LENGTH:
            z85.decode(text.encode("ascii"))
            return text
    except (UnicodeDecodeError, KeyError, ValueError) as error:
        raise BadKey("key_unreadable", f"{path} holds no z85 key: {error}", "remove it to get a new pair") from error
    raise BadKey("key_unreadable", f"{path} holds no z85 key of {_Z85_LENGTH} characters", "remove it to get a new one")
