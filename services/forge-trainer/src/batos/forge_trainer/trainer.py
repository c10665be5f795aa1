"""Runs the training program for one order and reads what it says."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from batos.forge_trainer.base_model import BaseModel
from batos.forge_trainer.child import run_child
from batos.forge_trainer.errors import ChildFailed, ForgeError
from batos.forge_trainer.settings import ForgeSettings

PROGRAM = Path(__file__).with_name("train.py")
JOB, REPORT, ADAPTER, CHECKPOINTS = "job.json", "report.json", "adapter", "checkpoints"
ROWS = {"train": "train.jsonl", "held_out": "held_out.jsonl"}
BAD_JOB = 2
"""Exit code of the program when trying again cannot help."""

ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(16 * 1024**3)}
"""Keeps freed memory in the process: giving it back and taking it again at every step cost a fifth of the time."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of what the program says."""

    event: Literal["loading", "resuming", "step", "evaluating", "done"]
    step: int = 0
    of: int = 0
    loss: float | None = None
    what: str = ""
    done: int = 0
    checkpoint: str = ""
    elapsed_s: float = 0.0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the program reports at its end."""

    base_loss: float
    candidate_loss: float
    train_rows: int
    held_out_rows: int
    held_out_answer_tokens: int
    too_long_rows: int
    seconds: float
    training: dict[str, Any]
    settings: dict[str, Any]
    versions: dict[str, str]
    precision: str
    device: str
    train_tokens: int = 0
    evaluation_s: float = 0.0


def job_of(settings: ForgeSettings, base: BaseModel, folder: Path) -> bytes:
    """Return the job file for an order's folder."""
    job = {
        "model": str(base.folder),
        **{side: str(folder / name) for side, name in ROWS.items()},
        "output": str(folder),
        "base_name": base.name,
        "epochs": settings.forge_epochs,
        "rank": settings.forge_rank,
        "alpha": settings.forge_alpha,
        "learning_rate": settings.forge_learning_rate,
        "batch": settings.forge_batch,
        "max_length": settings.forge_max_length,
        "seed": settings.forge_seed,
        "threads": settings.forge_threads,
        "checkpoint_steps": settings.forge_checkpoint_steps,
        "precision": settings.forge_precision,
    }
    return msgspec.json.format(msgspec.json.encode(job, order="sorted"), indent=1) + b"\n"


def prepare(folder: Path, job: bytes, rows: Mapping[str, bytes]) -> None:
    """Lay out an order's folder. What an interrupted training left there stays if it was for the same job and rows."""
    files = {JOB: job, **{ROWS[side]: data for side, data in rows.items()}}
    if any(not (folder / name).is_file() or (folder / name).read_bytes() != data for name, data in files.items()):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)


def read_report(folder: Path) -> Report | None:
    """Return the report of a finished training; None where there is none."""
    try:
        return msgspec.json.decode((folder / REPORT).read_bytes(), type=Report)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


async def train(*, python: Path, folder: Path, silence_s: float, hear: Callable[[Line], None]) -> Report:
    """Run the program in an order's folder until its report is there; a finished one is not run again.

    A run that fails after it resumed is tried once more from the beginning: its checkpoint may be what is broken.

    Args:
        python: interpreter with torch, trl and peft.
        folder: of the order, as `prepare` laid it out.
        silence_s: seconds without a word after which the program is given up.
        hear: is told how far it is.

    Raises:
        ForgeError: it failed.
    """
    resumed = False

    def told(text: str) -> None:
        nonlocal resumed
        try:
            line = msgspec.json.decode(text, type=Line)
        except msgspec.DecodeError as error:
            raise ForgeError("training_unreadable", f"the training said {text[:200]!r}: {error}") from error
        resumed = resumed or line.event == "resuming"
        hear(line)

    report = read_report(folder)
    while report is None:
        try:
            await run_child(
                "the training",
                [str(python), str(PROGRAM), str(folder / JOB)],
                log=folder / "train.log",
                silence_s=silence_s,
                hear=told,
                environment=ALLOCATOR,
            )
        except ChildFailed as error:
            if not resumed or error.status == BAD_JOB:
                raise
            shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
            resumed = False
            continue
        report = read_report(folder)
        if report is None:
            raise ForgeError(
                "report_missing", f"the training ended without a report in {folder}", "see train.log there"
            )
    return report


def clean(folder: Path) -> None:
    """Remove what a decided order needs no more; job, report and log stay."""
    for name in (CHECKPOINTS, ADAPTER, *ROWS.values()):
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
