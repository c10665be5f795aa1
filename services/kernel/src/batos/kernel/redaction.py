"""Secrets leave a text before it is logged; the same secret leaves the same placeholder behind, wherever it stood."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from batos.kernel.secret_signs import HINT, NAMED, RULES, names_a_secret
from batos.protocol import new_id

KEY_BYTES = 32
_DIGITS = 8
_PLACEHOLDER = "[redacted"


class Redactor:
    """Replaces secrets by placeholders such as `[redacted api_key 1a2b3c4d]`.

    The digits are a keyed hash of the secret: equal secrets stay equal, and nobody without the key can test a guess.
    """

    def __init__(self, key: bytes) -> None:
        self._key_bytes = key

    def text(self, text: str) -> str:
        """Return a text without its secrets.

        Where it is a JSON document, names in it say what is secret, too. What is the inside of one stays valid JSON.
        """
        if HINT.search(text) is None:
            return text
        if text.lstrip()[:1] in {"{", "["}:
            with suppress(ValueError, RecursionError):  # where it is no document, it is a text like others
                return self._document(text)
        return self._by_rules(text)

    def _document(self, text: str) -> str:
        """Return a JSON document without its secrets, to the last blank as it is where it has none.

        Raises:
            ValueError: it is no document, or means different things to different readers.
        """
        try:
            content = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError):  # Python goes beyond the standard: NaN, half a surrogate pair
            content = json.loads(text, parse_float=_number)
            cleaned = self.value(content)
            encoded = json.dumps(cleaned)
        else:
            cleaned = self.value(content)
            encoded = msgspec.json.encode(cleaned).decode()
        if cleaned != content:
            return encoded
        if self._by_rules(text) != text:  # numbers, which are no secrets; or a name that stands twice
            json.loads(text, object_pairs_hook=_once)
        return text

    def value(self, value: Any) -> Any:
        """Return plain data without its secrets; sets become lists, as in JSON.

        A secret is found in texts, keys among them, and under names such as `password`. Numbers are none.
        """
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self._key(key): self._named(key, item) for key, item in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.value(item) for item in value]
        return value

    def _key(self, key: Any) -> Any:
        return self.text(key) if isinstance(key, str) else key

    def _named(self, name: Any, value: Any) -> Any:
        return self._hidden(value) if isinstance(name, str) and names_a_secret(name) else self.value(value)

    def _hidden(self, value: Any) -> Any:
        """Return what stands under the name of a secret without any of its texts."""
        if isinstance(value, dict):
            return {self._key(key): self._hidden(item) for key, item in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self._hidden(item) for item in value]
        if not isinstance(value, str):
            return value
        known = self._by_rules(value)  # so that a secret has one placeholder, whatever it stands under
        return known if not known or known.startswith(_PLACEHOLDER) else self._placeholder(NAMED, known)

    def _by_rules(self, text: str) -> str:
        for kind, pattern in RULES:
            text = pattern.sub(lambda match, kind=kind: self._replaced(match, kind), text)  # type: ignore[misc]
        return text

    def _replaced(self, match: re.Match[str], kind: str) -> str:
        found = "secret" if match["secret"] is not None else "mixed"
        secret = match[found]
        if secret.startswith(_PLACEHOLDER) or not secret:
            return match[0]
        begin, end = match.span(found)
        start = match.start()
        return f"{match[0][: begin - start]}{self._placeholder(kind, secret)}{match[0][end - start :]}"

    def _placeholder(self, kind: str, secret: str) -> str:
        digits = hmac.new(self._key_bytes, secret.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
        return f"{_PLACEHOLDER} {kind} {digits[:_DIGITS]}]"


def _number(digits: str) -> float | str:
    """What a number is, or its digits where it is too large to be read."""
    number = float(digits)
    return number if math.isfinite(number) else digits


def _once(pairs: list[tuple[str, Any]]) -> None:
    """Refuse an object with a name that stands twice: what was read is the last alone.

    Raises:
        ValueError: there is such a name.
    """
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name stands twice in an object")


def redaction_key(path: Path) -> bytes:
    """Return the key in a file, made at the first call; processes that make it at once get the same one."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{new_id()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(os.urandom(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(temporary, path)
            except FileExistsError:
                return path.read_bytes()
        finally:
            temporary.unlink(missing_ok=True)
    return path.read_bytes()
