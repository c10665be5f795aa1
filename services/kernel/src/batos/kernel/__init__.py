"""The vessel that thinks: it keeps missions, runs cycles, logs every step, and answers for the image."""

from __future__ import annotations

from batos.kernel.chain import ChainFault, ChainReport, verify_folder, verify_lines
from batos.kernel.errors import Fenced, KernelError, ThoughtFailed
from batos.kernel.metacognition import Metacognition
from batos.kernel.settings import KernelSettings
from batos.kernel.ticket import CycleOutcome, Engine, EventSink, LogSink, Ticket
from batos.kernel.vessel import KernelVessel

__all__ = [
    "ChainFault",
    "ChainReport",
    "CycleOutcome",
    "Engine",
    "EventSink",
    "Fenced",
    "KernelError",
    "KernelSettings",
    "KernelVessel",
    "LogSink",
    "Metacognition",
    "ThoughtFailed",
    "Ticket",
    "verify_folder",
    "verify_lines",
]
