"""One order, from ORDERED to its verdict."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from batos.forge_trainer import trainer
from batos.forge_trainer.base_model import (
    BaseModel,
    checkout_of,
    ensure_folder,
    find_model,
    made_from,
    sha256_of,
)
from batos.forge_trainer.child import run_child
from batos.forge_trainer.errors import ForgeError
from batos.forge_trainer.gate import judge
from batos.forge_trainer.metrics import ForgeMetrics
from batos.forge_trainer.settings import ForgeSettings
from batos.forge_trainer.trainer import Line, Report
from batos.mind import adapters, archive, datasets, orders
from batos.mind.orders import Order
from batos.protocol import EngineDescribe, EngineDescription, Peer, Progress, ProtocolError
from batos.uvm import Image, Root

T = TypeVar("T")

WORK_FOLDER = "forge"
"""Where orders are worked on, in the fleet's home."""
ENVIRONMENT_SCRIPT = "scripts/environment.py"
FORGE_ENVIRONMENT = ".venv-forge"
_AROUND_A_STEP = re.compile(r"^forge: | \([\d.]+ s\)$")
"""Who speaks and since when: both are shown with an order's progress anyway."""

_log = logging.getLogger("batos.forge")


class Smith:
    """Works on orders, one at a time."""

    def __init__(self, *, peer: Peer, image: Image, settings: ForgeSettings, metrics: ForgeMetrics) -> None:
        self._peer = peer
        self._image = image
        self._settings = settings
        self._metrics = metrics
        self._checkout = checkout_of(settings)

    async def work(self, order_id: str) -> Order:
        """Bring an order to its verdict; one that is decided already stays as it is.

        Raises:
            ForgeError, MindError: the order cannot be carried out.
            UvmError: the image is away; the order is as far as it was.
        """
        folder = self._settings.home / WORK_FOLDER / order_id
        order = await self._read(lambda root: orders.get(root, order_id))
        if order.state not in orders.PENDING:
            await asyncio.to_thread(trainer.clean, folder)
            return order
        order = await self._write(lambda root: _start(root, order_id), f"order {order_id} is worked on")
        tell = _Teller(self._peer, order_id)
        python = await self._environment(tell)
        base = await self._base_model(python, tell)
        rows = await self._read(
            lambda root: {str(side): datasets.read(root, order.dataset_id, side) for side in datasets.SPLITS}
        )
        await asyncio.to_thread(trainer.prepare, folder, trainer.job_of(self._settings, base, folder), rows)
        tell("training", None, "starting")
        report = await trainer.train(
            python=python,
            folder=folder,
            silence_s=self._settings.forge_silence_s,
            hear=lambda line: self._hear(line, tell),
        )
        self._metrics.training_seconds.inc(report.seconds)
        self._metrics.loss.labels("base").set(report.base_loss)
        self._metrics.loss.labels("candidate").set(report.candidate_loss)
        tell("storing", None, "the adapter and its gate report")
        packed = await asyncio.to_thread(_packed, folder / trainer.ADAPTER)
        gate = gate_report(report, self._settings.forge_margin)
        decided = await self._write(
            lambda root: _decide(root, order_id, base, report, gate, packed), f"order {order_id}: {gate['verdict']}"
        )
        await asyncio.to_thread(trainer.clean, folder)
        tell("done", 1.0, decided.verdict)
        return decided

    async def fail(self, order_id: str, error: Exception) -> Order:
        """Record that an order could not be carried out, and why."""
        failed = await self._write(lambda root: _fail(root, order_id, str(error)), f"order {order_id} failed")
        _Teller(self._peer, order_id)("failed", 1.0, failed.error)
        return failed

    async def _environment(self, tell: _Teller) -> Path:
        """Return the interpreter to train with; its environment is made where it is missing."""
        if self._settings.forge_python is not None:
            python = self._settings.forge_python.expanduser().absolute()
            if not python.exists():
                raise ForgeError(
                    "forge_python_missing", f"there is no interpreter at {python}", "set BATOS_FORGE_PYTHON"
                )
            return python
        if self._checkout is None:
            raise ForgeError(
                "forge_environment_unknown",
                "no checkout is there whose scripts could make the forge environment",
                "set BATOS_FORGE_PYTHON to an interpreter with torch, trl and peft",
            )
        tell("environment", None, "is torch there?")
        await run_child(
            "the making of the forge environment",
            [sys.executable, str(self._checkout / ENVIRONMENT_SCRIPT), "forge"],
            log=self._settings.home / "log" / "forge-environment.log",
            silence_s=self._settings.forge_silence_s,
            hear=lambda line: tell("environment", None, step_of(line)),
        )
        return self._checkout / FORGE_ENVIRONMENT / "bin" / "python"

    async def _base_model(self, python: Path, tell: _Teller) -> BaseModel:
        """Return the base model, made ready, and make sure that it is the one that the engine serves."""
        tell("model", None, "which one?")
        model = find_model(self._settings, self._checkout)
        if model.is_dir():
            name, sha256 = await asyncio.to_thread(made_from, model)
            base = BaseModel(name, sha256, model)
        else:
            base = await ensure_folder(
                model=model,
                sha256=await asyncio.to_thread(sha256_of, model),
                python=python,
                checkout=self._checkout,
                home=self._settings.home,
                silence_s=self._settings.forge_silence_s,
                tell=lambda line: tell("model", None, line),
            )
        served = await self._served()
        if served is not None and served.model_hash != base.sha256:
            raise ForgeError(
                "base_model_differs",
                f"the engine serves {served.model} ({served.model_hash[:16]}…), the forge would train on {base.name}"
                f" ({base.sha256[:16]}…)",
                "set BATOS_FORGE_MODEL to the engine's model",
            )
        return base

    async def _served(self) -> EngineDescription | None:
        try:
            return await self._peer.request(
                "inference", EngineDescribe(), EngineDescription, timeout_s=self._settings.forge_describe_timeout_s
            )
        except ProtocolError as error:
            _log.warning("no engine says which model it serves, training goes on with the forge's own: %s", error)
            return None

    def _hear(self, line: Line, tell: _Teller) -> None:
        if line.event == "step" and line.of:
            self._metrics.loss.labels("train").set(line.loss or 0.0)
            tell("training", line.step / line.of, f"step {line.step} of {line.of}, loss {line.loss:.3f}")
        elif line.event == "evaluating" and line.of:
            tell("evaluating", line.done / line.of, f"{line.what}, {line.done} of {line.of} held-out rows")
        elif line.event == "resuming":
            tell("training", None, f"resuming from {line.checkpoint}")
        elif line.event == "loading":
            tell("training", None, "loading the model")

    async def _read(self, look: Callable[[Root], T]) -> T:
        def run() -> T:
            with self._image.snapshot() as root:
                return look(root)

        return await asyncio.to_thread(run)

    async def _write(self, change: Callable[[Root], T], note: str) -> T:
        return await asyncio.to_thread(self._image.run, change, user=self._settings.name, note=note)


class _Teller:
    """Publishes how far an order is."""

    def __init__(self, peer: Peer, order_id: str) -> None:
        self._peer = peer
        self._order_id = order_id

    def __call__(self, stage: str, fraction: float | None, detail: str = "") -> None:
        event = Progress(what="forge", id=self._order_id, stage=stage, fraction=fraction, detail=detail)
        self._peer.publish(f"progress/forge/{self._order_id}", event)


def step_of(line: str) -> str:
    """Return what a line of the environment's script says, without what stands around it."""
    return _AROUND_A_STEP.sub("", line.strip())


def gate_report(report: Report, margin: float) -> dict[str, Any]:
    """Return what is stored of the gate: its verdict and all figures behind it."""
    judgement = judge(base_loss=report.base_loss, candidate_loss=report.candidate_loss, margin=margin)
    return {
        "passed": judgement.passed,
        "verdict": judgement.verdict,
        "gain": judgement.gain,
        "margin": margin,
        "base_loss": report.base_loss,
        "candidate_loss": report.candidate_loss,
        "held_out_rows": report.held_out_rows,
        "held_out_answer_tokens": report.held_out_answer_tokens,
    }


def _packed(folder: Path) -> bytes:
    return archive.pack((folder / archive.CONFIG).read_bytes(), (folder / archive.WEIGHTS).read_bytes())


def _start(root: Root, order_id: str) -> Order:
    return orders.update(root, order_id, state="TRAINING")


def _fail(root: Root, order_id: str, error: str) -> Order:
    order = orders.get(root, order_id)
    return orders.update(root, order_id, state="FAILED", error=error) if order.state in orders.PENDING else order


def _decide(root: Root, order_id: str, base: BaseModel, report: Report, gate: dict[str, Any], packed: bytes) -> Order:
    """Store the adapter unbound and the order's verdict, both or neither. A decided order stays as it is."""
    order = orders.get(root, order_id)
    if order.state not in orders.PENDING:
        return order
    training = msgspec.to_builtins(report)
    name = adapters.add_candidate(
        root,
        persona_name=order.persona,
        model_hash=base.sha256,
        archive=packed,
        gate=gate,
        dataset_id=order.dataset_id,
        dataset_sha256=datasets.get(root, order.dataset_id).sha256,
        order_id=order_id,
        training=training,
    )
    return orders.update(
        root,
        order_id,
        state="PASSED" if gate["passed"] else "REFUSED",
        adapter=name,
        base_loss=report.base_loss,
        candidate_loss=report.candidate_loss,
        margin=gate["margin"],
        verdict=gate["verdict"],
        report=training,
    )
