"""What the process that cares for an image says where the image cannot be opened. No sockets, no database."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from batos.image import care, database
from batos.uvm import BadImageUri, ImageRefused, ImageUnreachable, ImageUnusable, UvmError

URI = "postgresql://nobody@localhost/image"


@pytest.mark.parametrize(
    ("wrong", "code", "helps"),
    [
        (ImageUnreachable(URI, 5.0, "opening it"), "image_unreachable", "see whether it runs"),
        (BadImageUri(URI, "it names no host"), "image_unusable", "correct BATOS_IMAGE_URI"),
        (ImageRefused(URI, "no such user", "create it"), "image_unusable", "correct BATOS_IMAGE_URI"),
        (ImageUnusable(URI, ValueError("nonsense")), "image_unusable", "batos image verify"),
    ],
)
def test_what_is_away_is_not_damaged(
    wrong: UvmError,
    code: str,
    helps: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    """Only an image that is there and cannot be read is to be looked at for damage."""

    def pinned(_uri: str) -> None:
        raise wrong

    monkeypatch.setattr(database, "pinned", pinned)
    monkeypatch.setattr(os, "nice", lambda _by: 0)
    monkeypatch.setenv("BATOS_IMAGE_URI", URI)
    monkeypatch.setenv("BATOS_HOME", str(tmp_path))
    assert care.main(["pins"]) == 1
    said = msgspec.json.decode(capfdbinary.readouterr().out)
    assert (said["code"], helps in said["hint"]) == (code, True), said
    assert said["message"] == str(wrong)
