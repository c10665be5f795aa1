"""The order folder: one JSON file an order, in step with the records in the image."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from batos.forge_trainer.errors import ForgeError
from batos.mind.orders import Order
from batos.protocol import new_id

SUFFIX = ".json"
COMPLAINT = ".error"
"""Added to the name of a file that is no order: says what is wrong with it."""
MAX_BYTES = 65_536
"""Largest file that is read as an order."""
ID = re.compile(r"[0-9a-f]{32}")


class OrderFile(msgspec.Struct, frozen=True, kw_only=True):
    """An order as it stands in the folder. Who drops one by hand needs persona and dataset_id only."""

    persona: str
    dataset_id: str
    order_id: str = ""
    state: str = "ORDERED"
    adapter: str = ""
    base_loss: float | None = None
    candidate_loss: float | None = None
    verdict: str = ""
    error: str = ""


def file_of(order: Order) -> OrderFile:
    """Return an order as it stands in the folder."""
    return OrderFile(
        persona=order.persona,
        dataset_id=order.dataset_id,
        order_id=order.order_id,
        state=order.state,
        adapter=order.adapter,
        base_loss=order.base_loss,
        candidate_loss=order.candidate_loss,
        verdict=order.verdict,
        error=order.error,
    )


def is_order(path: Path) -> bool:
    """Whether a file in the folder is meant as an order, by its name."""
    return path.suffix == SUFFIX and not path.name.startswith(".")


def read(path: Path) -> OrderFile:
    """Read an order from a file; one without an id gets one that the same file always gets.

    Raises:
        ForgeError: it is none; the sentence says why.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ForgeError("order_invalid", f"{path.name} is larger than {MAX_BYTES} bytes")
        changed_ms = path.stat().st_mtime_ns // 1_000_000
        data = path.read_bytes()
        found = msgspec.json.decode(data, type=OrderFile)
    except (OSError, msgspec.DecodeError) as error:
        raise ForgeError(
            "order_invalid",
            f"{path.name} is no order: {error}",
            'an order is {"persona": "brick", "dataset_id": "…"} with the id of a data set in the image',
        ) from error
    if not found.order_id:
        return msgspec.structs.replace(found, order_id=id_of(path.name, data, changed_ms))
    if ID.fullmatch(found.order_id) is None:
        raise ForgeError(
            "order_invalid", f"{path.name}: an order's id has 32 hexadecimal digits", "leave it out to get one"
        )
    return found


def id_of(name: str, data: bytes, changed_ms: int) -> str:
    """Return the id (in the form of a UUIDv7) of an order that was dropped without one.

    It depends on the file alone, so that a crash between reading it and recording it makes no second order.
    """
    digits = hashlib.sha256(name.encode() + b"\0" + data).hexdigest()
    return f"{changed_ms & (1 << 48) - 1:012x}7{digits[:3]}8{digits[3:18]}"


def write(folder: Path, order: Order) -> Path:
    """Write an order's file whole or not at all; return its path."""
    path = folder / f"{order.order_id}{SUFFIX}"
    temporary = folder / f".{path.name}.{new_id()}"  # two threads may write the same order's
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(file_of(order)), indent=2) + b"\n")
    temporary.replace(path)
    return path


def complain(path: Path, error: Exception) -> None:
    """Write beside a file what is wrong with it."""
    path.with_name(path.name + COMPLAINT).write_text(f"{error}\n", encoding="utf-8")


def stop_complaining(path: Path) -> None:
    """Remove what was said about an earlier version of a file."""
    path.with_name(path.name + COMPLAINT).unlink(missing_ok=True)


def sync(folder: Path, orders: Iterable[Order]) -> list[Path]:
    """Write the file of every order whose file is missing or says otherwise; return the paths that were written."""
    written = []
    for order in orders:
        path = folder / f"{order.order_id}{SUFFIX}"
        try:
            current = read(path)
        except ForgeError:
            current = None
        if current != file_of(order):
            written.append(write(folder, order))
    return written
