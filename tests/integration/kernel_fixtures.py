"""Kernels as processes on a real image and a real bus, and an engine in the test that answers by script."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from integration.bus_fixtures import HEARTBEAT_S, BusUnderTest, Peers, make_card

from batos.protocol import (
    AdapterLoad,
    AdaptersLoaded,
    AdapterUnload,
    EngineDescribe,
    EngineDescription,
    Infer,
    Inferred,
    MissionAccepted,
    MissionStatus,
    MissionSubmit,
    MissionWait,
    Peer,
    RequestContext,
    RequestFailed,
    Roster,
    RosterGet,
    Tokenize,
    Tokenized,
    Usage,
    VesselCard,
    new_id,
)
from batos.uvm import Image, open_image

PLAN = json.dumps(
    {
        "goal": "Name a small boat.",
        "parts": [
            {"facet": "sage", "ask": "What matters in a boat's name?"},
            {"facet": "disruptor", "ask": "Does a boat need a name?"},
        ],
    }
)
ANSWER = "Call it Drip."
MODEL_HASH = "m" * 64
FAST = {
    "BATOS_KERNEL_POLL_S": "0.1",
    "BATOS_KERNEL_ROSTER_S": "0.2",
    "BATOS_KERNEL_ADOPT_AFTER_S": "1.5",
    "BATOS_KERNEL_PROBE_PAUSE_S": "0.1",
    "BATOS_KERNEL_GENESIS_AFTER_S": "0.1",
    "BATOS_KERNEL_WAIT_POLL_S": "0.05",
}


@dataclass
class ScriptedInference:
    """An inference vessel that answers by the step in a prompt's label.

    Attributes:
        gate: while it is closed, prompts of missions wait; `asked` tells of them all the same.
        refusal: where set, every prompt of a mission is refused with it.
    """

    asked: list[Infer] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    loaded: list[str] = field(default_factory=list)
    refusal: RequestFailed | None = None
    silent_probe: bool = False
    cancelled: int = 0
    peer: Peer | None = None

    def serve(self, peer: Peer, name: str) -> None:
        self.peer = peer
        handlers = {
            Infer: self.infer,
            EngineDescribe: self.describe,
            Tokenize: self.tokenize,
            AdapterLoad: self.load,
            AdapterUnload: self.unload,
        }
        peer.serve(["inference", f"inference/{name}"], handlers, capacity=64)

    async def infer(self, message: Infer, _context: RequestContext) -> Inferred:
        if message.probe:
            if self.silent_probe:
                raise RequestFailed("engine_starting", "the engine starts", transient=True)
            return self._inferred("awake", message)
        self.asked.append(message)
        if self.refusal is not None:
            raise self.refusal
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        step = message.label.step.partition("-")[0]
        return self._inferred({"plan": PLAN, "weave": ANSWER}.get(step, "A partial answer."), message)

    def _inferred(self, text: str, message: Infer) -> Inferred:
        return Inferred(
            text=text,
            finish_reason="stop",
            usage=Usage(prompt_tokens=10, completion_tokens=5),
            engine="scripted",
            model="words",
            model_hash=MODEL_HASH,
            adapter=message.adapter,
            duration_ms=3,
        )

    async def describe(self, _message: EngineDescribe, _context: RequestContext) -> EngineDescription:
        return EngineDescription(
            engine="scripted",
            model="words",
            model_hash=MODEL_HASH,
            context_tokens=2048,
            slots=4,
            adapters=tuple(self.loaded),
        )

    async def tokenize(self, message: Tokenize, _context: RequestContext) -> Tokenized:
        limits = message.limits or (0,) * len(message.texts)
        cut = tuple(" ".join(text.split()[:limit]) for text, limit in zip(message.texts, limits, strict=True))
        return Tokenized(
            counts=tuple(len(text.split()) for text in message.texts),
            cut=cut if message.limits else (),
            overhead_per_message=2,
        )

    async def load(self, message: AdapterLoad, _context: RequestContext) -> AdaptersLoaded:
        self.loaded.append(message.adapter)
        return AdaptersLoaded(adapters=tuple(self.loaded))

    async def unload(self, message: AdapterUnload, _context: RequestContext) -> AdaptersLoaded:
        self.loaded.remove(message.adapter)
        return AdaptersLoaded(adapters=tuple(self.loaded))

    def missions(self) -> set[str]:
        """Missions of which a prompt was asked."""
        return {prompt.label.mission_id for prompt in self.asked}


class MindUnderTest:
    """Image, bus and kernels as processes; engine and client as peers of the test."""

    def __init__(self, bus: BusUnderTest, peers: Peers) -> None:
        self.bus = bus
        self.peers = peers
        self.engine = ScriptedInference()
        self.short = Path(tempfile.mkdtemp(prefix="batos-"))
        self.uri = f"zeo://{self.short}/image.sock?wait_timeout=20"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.outputs: dict[str, Path] = {}
        self._client: Peer | None = None
        self._image: Image | None = None

    @property
    def client(self) -> Peer:
        assert self._client is not None
        return self._client

    @property
    def image(self) -> Image:
        if self._image is None:
            self._image = open_image(self.uri)
        return self._image

    @property
    def log(self) -> Path:
        return self.bus.home / "log"

    async def begin(self, *, engine: bool = True) -> None:
        self.bus.start()
        self.start_image()
        self._client = await self.peers.join(make_card("console-1", kind="console"))
        if engine:
            await self.start_engine()

    async def start_engine(self, name: str = "inference-1", engine: ScriptedInference | None = None) -> Peer:
        peer = await self.peers.join(make_card(name, kind="inference"), start=False)
        (engine or self.engine).serve(peer, name)
        await peer.start()
        await peer.wait_connected(20)
        return peer

    def start_image(self) -> None:
        self._start("image", "image", "batos.image", {})

    def start_kernel(self, name: str = "kernel-1", *, label: str = "", **settings: str) -> subprocess.Popen[bytes]:
        """Start a kernel; `label` names the process where two have one name."""
        return self._start(label or name, name, "batos.kernel", {**FAST, **settings})

    def _start(self, label: str, name: str, module: str, settings: dict[str, str]) -> subprocess.Popen[bytes]:
        environment = self.bus.environment | {"BATOS_NAME": name, "BATOS_IMAGE_URI": self.uri} | settings
        path = self.bus.home / f"{label}.out"
        self.outputs[label] = path
        with path.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", module], env=environment, cwd=self.bus.home, stderr=output
            )
        self.processes[label] = process
        return process

    async def roster(self, kind: str) -> list[VesselCard]:
        found = await self.client.request("bus", RosterGet(), Roster, timeout_s=10)
        return [card for card in found.vessels if card.kind == kind]

    async def ready(self, *labels: str) -> None:
        """Wait until the processes with these labels say that they are ready."""
        deadline = time.monotonic() + 40
        pids = {self.processes[label].pid: label for label in labels}
        while True:
            cards = await self.roster("kernel")
            ready = {card.pid for card in cards if card.ready}
            if pids.keys() <= ready:
                return
            ended = [label for label in labels if self.processes[label].poll() is not None]
            if ended or time.monotonic() > deadline:
                pytest.fail(
                    f"waited for {labels}, ended: {ended}, roster: {cards}\n"
                    + "\n".join(self.outputs[label].read_text()[-4000:] for label in labels)
                )
            await asyncio.sleep(0.05)

    async def submit(self, text: str = "Suggest a name for a small boat.", **other: Any) -> str:
        mission_id = other.pop("mission_id", None) or new_id()
        await self.client.request(
            "kernel", MissionSubmit(mission_id=mission_id, text=text, **other), MissionAccepted, timeout_s=30
        )
        return str(mission_id)

    async def wait(self, mission_id: str, timeout_s: float = 60) -> MissionStatus:
        deadline = time.monotonic() + timeout_s
        while True:
            status = await self.client.request(
                "kernel", MissionWait(mission_id=mission_id, timeout_s=10), MissionStatus, timeout_s=30
            )
            if status.state in {"COMPLETE", "FAILED"} or time.monotonic() > deadline:
                return status

    async def until(self, condition: Callable[[], Any], what: str, timeout_s: float = 40) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"waited {timeout_s} s for {what}\n{self.said()}")
            await asyncio.sleep(0.02)

    def said(self) -> str:
        return "\n".join(f"--- {label}\n{path.read_text()[-3000:]}" for label, path in self.outputs.items())

    def records(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for path in sorted(self.log.rglob("metacognition*.jsonl")):
            found += [json.loads(line) for line in path.read_text().splitlines()]
        return found

    async def page(self, name: str, page: str) -> tuple[int, str]:
        url = next(card.metrics for card in await self.roster("kernel") if card.name == name)

        def get() -> tuple[int, str]:
            try:
                with urllib.request.urlopen(url.replace("/metrics", page), timeout=10) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()

        return await asyncio.to_thread(get)

    def end(self, label: str, number: signal.Signals = signal.SIGKILL, timeout_s: float = 30) -> int:
        process = self.processes[label]
        if process.poll() is None:
            process.send_signal(number)
        return process.wait(timeout_s)

    async def end_gently(self, label: str, timeout_s: float = 40) -> int:
        return await asyncio.to_thread(self.end, label, signal.SIGTERM, timeout_s)

    def close(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                os.kill(process.pid, signal.SIGCONT)
                process.kill()
            process.wait(20)
        if self._image is not None:
            self._image.close()
        shutil.rmtree(self.short, ignore_errors=True)


@pytest.fixture
async def mind(stopped_bus: BusUnderTest, peers: Peers) -> AsyncIterator[MindUnderTest]:
    """A mind without kernels yet; whatever runs at the end is killed."""
    found = MindUnderTest(stopped_bus, peers)
    found.engine.gate.set()
    try:
        yield found
    finally:
        found.close()


__all__ = ["HEARTBEAT_S", "MindUnderTest", "ScriptedInference", "mind"]
