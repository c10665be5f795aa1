"""Secrets leave a text before it is logged; the same secret leaves the same placeholder behind, wherever it stood."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from pathlib import Path
from typing import Any

import msgspec

from batos.protocol import new_id

KEY_BYTES = 32
_DIGITS = 8

_START = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))"
"""Where a word begins, also behind an escaped line end in JSON."""
_GAP = r"(?:\\[nr]|\s)"

_RULES: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "private_key",
        re.compile(
            rf"-----BEGIN (?:[A-Z0-9]+ ){{0,3}}PRIVATE KEY-----(?P<secret>{_GAP}*"
            rf"(?:[A-Za-z-]{{1,32}}: [^\n\"\\]{{0,128}}{_GAP}+)*(?:[A-Za-z0-9+/=\s]|\\[nr])*"
            r"(?:-----END (?:[A-Z0-9]+ ){0,3}PRIVATE KEY-----)?)"
        ),
    ),
    (
        "url_password",
        re.compile(
            _START + r"[a-zA-Z][a-zA-Z0-9+.-]{1,30}://[^\s:/@\"'\\]{0,256}:(?P<secret>[^\s/@\"'\\]{1,512})@",
        ),
    ),
    ("bearer_token", re.compile(_START + r"[Bb]earer\s+(?P<secret>[A-Za-z0-9._~+/-]{16,4096}=*)")),
    ("jwt", re.compile(_START + r"(?P<secret>eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,})")),
    (
        "api_key",
        re.compile(
            _START + r"(?P<secret>sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}"
            r"|glpat-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{20,}|xox[abeprs]-[A-Za-z0-9-]{10,}|A(?:KIA|SIA)[A-Z0-9]{16}"
            r"|AIza[A-Za-z0-9_-]{35})(?![A-Za-z0-9])"
        ),
    ),
    (
        "api_key",
        re.compile(
            r"(?i)(?:api[_-]?key|secret[_-]?key|access[_-]?token|auth[_-]?token|client[_-]?secret|passw(?:or)?d)"
            r"(?:\\?[\"'])?\s{0,3}[:=]\s{0,3}(?:\\?[\"'])?(?P<secret>[A-Za-z0-9._~+/-]{8,512}=*)"
        ),
    ),
)
_HINT = re.compile(
    r"(?i)://|-----BEGIN|bearer|eyJ|sk-|gh[pousr]_|github_pat|glpat-|hf_|xox|A[KS]IA|AIza|key|token|secret|passw"
)
"""Text without any of this holds nothing that a rule would find; most text is let through by this one look."""


class Redactor:
    """Replaces secrets by placeholders such as `[redacted api_key 1a2b3c4d]`.

    The digits are a keyed hash of the secret: equal secrets stay equal, and nobody without the key can test a guess.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def text(self, text: str) -> str:
        """Return a text without its secrets. A text that is the inside of a JSON document stays valid JSON."""
        if _HINT.search(text) is None:
            return text
        for kind, pattern in _RULES:
            text = pattern.sub(lambda match, kind=kind: self._replaced(match, kind), text)  # type: ignore[misc]
        return text

    def json_text(self, document: str) -> str:
        """Return a JSON document without the secrets in its texts; what is no JSON is taken as text."""
        if _HINT.search(document) is None:
            return document
        try:
            content = msgspec.json.decode(document)
        except msgspec.DecodeError:
            return self.text(document)
        return msgspec.json.encode(self.value(content)).decode()

    def value(self, value: Any) -> Any:
        """Return plain data without the secrets in its texts, keys among them; sets become lists, as in JSON."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.value(key) if isinstance(key, str) else key: self.value(item) for key, item in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.value(item) for item in value]
        return value

    def _replaced(self, match: re.Match[str], kind: str) -> str:
        secret = match["secret"]
        if secret.startswith("[redacted") or not secret:
            return match[0]
        digits = hmac.new(self._key, secret.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:_DIGITS]
        begin, end = match.span("secret")
        start = match.start()
        return f"{match[0][: begin - start]}[redacted {kind} {digits}]{match[0][end - start :]}"


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
