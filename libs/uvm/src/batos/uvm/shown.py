"""How an address is shown: never with the password that may stand in it."""

from __future__ import annotations

import re

HIDDEN = "***"
_WITHOUT_PASSWORDS = frozenset({"file", "zeo"})
_PORT = re.compile(r"\d*([/?]|$)")
_SECRET_PARAMETER = re.compile(r"([?&][^=&]*pass[^=&]*=)[^&]+", re.IGNORECASE)


def without_password(uri: str) -> str:
    """The address for people and logs.

    It hides too much rather than too little: in an address that is written wrongly (a password with a bare `@`, `/` or
    `?`) all between the first colon and the last `@` counts as one. `batos.vessel`, which knows no images, has its own.
    """
    scheme, found, rest = uri.partition("://")
    if not found or scheme in _WITHOUT_PASSWORDS:
        return uri
    front, at, place = rest.rpartition("@")
    user, colon, secret = (front if at else rest).partition(":")
    if colon and (at or not _PORT.match(secret)):
        rest = f"{user}:{HIDDEN}{at}{place if at else ''}"
    return f"{scheme}://" + _SECRET_PARAMETER.sub(rf"\1{HIDDEN}", rest)
