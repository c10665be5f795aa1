"""The texts of pins: which cannot be kept, and how that is said."""

from __future__ import annotations

import pytest
from image_files import ImageFiles

from batos.image.errors import CareError
from batos.image.pins import MAX_TEXT, pin, pins
from batos.uvm import open_image

LONG = "x" * (MAX_TEXT + 1)


@pytest.mark.parametrize(
    ("name", "reason", "by", "said"),
    [
        ("", "", "", "has a name"),
        ("a\nb", "", "", r"'a\\nb' has characters that cannot be shown"),
        ("\x1b[31m", "", "", "cannot be shown"),
        (LONG, "", "", f"the pin's name has {MAX_TEXT + 1} characters, at most {MAX_TEXT}"),
        ("x", LONG, "", f"the pin's reason has {MAX_TEXT + 1} characters"),
        ("x", "", LONG, f"the pin's author has {MAX_TEXT + 1} characters"),
    ],
    ids=["none", "line", "escape", "name", "reason", "author"],
)
def test_texts_that_cannot_be_kept(files: ImageFiles, name: str, reason: str, by: str, said: str) -> None:
    """Which of them it is, and why."""
    with open_image(files.uri) as image, pytest.raises(CareError, match=said) as caught:
        pin(image, name, "", reason=reason, by=by)
    assert caught.value.code == "pin_invalid"


def test_a_name_that_looks_like_an_option(files: ImageFiles) -> None:
    """It may; where it is taken the command that frees it can be typed as it is told."""
    first = files.put("fourth", "4")
    files.put("fourth", "5")
    with open_image(files.uri) as image:
        pin(image, "-n x", "", reason="a reason\nin two lines", by="")
        with image.snapshot() as root:
            assert [one.name for one in pins(root)] == ["-n x"]
        with pytest.raises(CareError, match="batos image unpin -- '-n x'"):
            pin(image, "-n x", first, reason="", by="")
