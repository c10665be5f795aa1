"""An adapter as one file: an uncompressed tar of peft's two files, the same bytes for the same content."""

from __future__ import annotations

import io
import tarfile

from batos.mind.errors import Corrupt

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MEMBERS = (CONFIG, WEIGHTS)

MAX_BYTES = 2 * 1024**3
"""Largest member that is unpacked."""


def pack(config: bytes, weights: bytes) -> bytes:
    """Return the archive of an adapter's configuration and weights."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in zip(MEMBERS, (config, weights), strict=True):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.mode = 0o644
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def unpack(archive: bytes) -> dict[str, bytes]:
    """Return the two files of an archive by name.

    Raises:
        Corrupt: it is no tar, or holds anything but those two files.
    """
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            for member in tar:
                stream = tar.extractfile(member) if member.isfile() else None
                if member.name not in MEMBERS or stream is None or member.size > MAX_BYTES:
                    raise Corrupt("archive_invalid", f"an adapter's archive may not hold {member.name!r}")
                found[member.name] = stream.read()
    except tarfile.TarError as error:
        raise Corrupt("archive_invalid", f"the adapter's archive cannot be read: {error}") from error
    missing = [name for name in MEMBERS if name not in found]
    if missing:
        raise Corrupt("archive_invalid", f"the adapter's archive lacks {', '.join(missing)}")
    return found
