"""Which image this is: a name that goes with its files, into its backups, and into what is restored from them.

Nothing within the image would do: packing may take away its first transactions, and two minds may begin with the same.
"""

from __future__ import annotations

from pathlib import Path

from batos.image.manifest import replace_file

IMAGE_ID = "image_id"
"""A file in the image's folder."""


def image_id(folder: Path) -> str:
    """Return which image lies in a folder; empty where that was not written down yet."""
    try:
        return (folder / IMAGE_ID).read_text(errors="replace").strip()
    except FileNotFoundError:
        return ""


def write_image_id(folder: Path, name: str) -> None:
    """Write down which image lies in a folder."""
    replace_file(folder / IMAGE_ID, f"{name}\n".encode())
