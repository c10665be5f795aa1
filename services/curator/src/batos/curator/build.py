"""A data set out of memory: the rows of a persona, divided, stored, written for reading."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from batos.curator.errors import AnswersTooAlike, DatasetTooSmall
from batos.curator.rows import rows_of
from batos.curator.settings import CuratorSettings
from batos.curator.split import deduplicated, split
from batos.mind import Root, datasets, log_memory
from batos.mind.datasets import Row

FOLDER = "datasets"
"""Where data sets are written for reading, in the fleet's home."""


class Curated(NamedTuple):
    """What is to be stored as a data set."""

    train: list[Row]
    held_out: list[Row]
    counts: dict[str, int]


def curated(root: Root, *, persona: str, unread: Sequence[str], settings: CuratorSettings) -> Curated:
    """Return the rows of a persona that memory holds, divided.

    Args:
        root: the image's root.
        persona: whose answers, in upper case.
        unread: kernels whose logs could not be read before.
        settings: how much is needed and how much is held out.

    Raises:
        DatasetTooSmall: there are too few different answers.
    """
    cycles = log_memory.records(root, log_memory.cycles(root, persona=persona))
    found = rows_of(persona, cycles)
    rows = deduplicated(found.rows)
    counts = {
        "cycles": len(cycles),
        **found.counts,
        "repeated": len(found.rows) - len(rows),
        "rows": len(rows),
        "logs not read": len(unread),
    }
    if len(rows) < settings.curator_min_rows:
        raise DatasetTooSmall(persona, counts, settings.curator_min_rows)
    sides = split(rows, held_out_share=settings.curator_held_out_share, min_held_out=settings.curator_min_held_out)
    if sides is None:
        raise AnswersTooAlike(persona, counts, settings.curator_min_held_out)
    return Curated(sides.train, sides.held_out, counts)


def query(persona: str) -> str:
    """Return in words what a persona's data set is the answer to."""
    return f"answers of {persona} (LLM_RESPONSE with its LLM_PROMPT) in cycles whose FINAL_OUTCOME is COMPLETE"


def files_of(root: Root, dataset_id: str) -> dict[str, bytes]:
    """Return a stored data set as the files that are written for reading, the manifest last."""
    return {
        "train.jsonl": datasets.read(root, dataset_id, "train"),
        "held_out.jsonl": datasets.read(root, dataset_id, "held_out"),
        "manifest.json": datasets.encode_manifest(datasets.manifest(root, dataset_id)),
    }


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a folder, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        temporary = folder / f".{name}.{os.getpid()}"
        temporary.write_bytes(data)
        temporary.replace(folder / name)
