"""A bus, a ZEO server, and the curator and the forge in the test's own loop or as processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from integration.bus_fixtures import BusUnderTest, Peers, make_card
from integration.uvm_servers import server_here, short_folder

from batos.mind import datasets
from batos.mind.datasets import Row
from batos.protocol import (
    ChatMessage,
    EventType,
    LogChunk,
    LogRead,
    LogRecord,
    Peer,
    RequestContext,
    RequestFailed,
    Roster,
    RosterGet,
    encode_record,
)
from batos.uvm import Image, open_image

CHECKOUT = Path(__file__).resolve().parents[2]
TOOLS = ["hammer", "kettle", "ladder", "bicycle", "lantern", "compass", "anchor", "umbrella", "whistle", "saddle"]
TASKS = ["mend", "clean", "lend", "paint", "sell", "label", "weigh", "hide", "draw", "move"]


@dataclass
class Workshop:
    """A home with a bus and an image, for vessels under test."""

    bus: BusUnderTest
    image: Image
    image_uri: str
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.bus.home

    def environment(self, name: str, **settings: str) -> dict[str, str]:
        return {
            **self.bus.environment,
            "BATOS_IMAGE_URI": self.image_uri,
            "BATOS_NAME": name,
            **{f"BATOS_{key.upper()}": value for key, value in settings.items()},
        }

    def start(
        self, module: str, name: str, extra: Mapping[str, str] | None = None, **settings: str
    ) -> subprocess.Popen[str]:
        """Start a vessel as a process of its own; `extra` are environment variables beside its settings."""
        with (self.home / f"{name}.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module],
                env=self.environment(name, **settings) | dict(extra or {}),
                cwd=self.home,
                stderr=log,
                text=True,
            )
        self.processes.append(process)
        return process

    def said(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text()

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(60)


@pytest.fixture
def workshop(bus: BusUnderTest) -> Iterator[Workshop]:
    """A running bus and a ZEO server, with the image opened by the test."""
    with short_folder() as folder, server_here(folder) as socket:
        uri = f"zeo://{socket}?shared_blob_dir=1&blob_dir={folder}/blobs"
        with open_image(uri) as image:
            found = Workshop(bus, image, uri)
            try:
                yield found
            finally:
                found.close()


async def ready(peer: Peer, name: str, workshop: Workshop, timeout_s: float = 60.0) -> None:
    """Wait until a vessel is ready."""
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                roster = await peer.request("bus", RosterGet(), Roster, timeout_s=10)
                if any(card.name == name and card.ready for card in roster.vessels):
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"waited {timeout_s} s for {name} to be ready; it said:\n{workshop.said(name)}")


def example(number: int) -> tuple[str, str]:
    """A question and its answer, unlike all others up to 100."""
    tool, task = TOOLS[number % 10], TASKS[number // 10 % 10]
    steps = [f"find the {tool}", f"{task} it with care", f"say that the {tool} is ready"]
    return f"How do I {task} a {tool}?", json.dumps({"goal": f"{task} the {tool}", "steps": steps})


def make_row(number: int) -> Row:
    question, answer = example(number)
    return Row(
        messages=(
            ChatMessage("system", "You are BRICK. Take the task apart; answer in JSON."),
            ChatMessage("user", question),
            ChatMessage("assistant", answer),
        ),
        cycle_id=f"{number:032x}",
        mission_id=f"{number:032x}",
        seq=number,
        incarnation="one",
    )


def store_dataset(image: Image, dataset_id: str, train: int, held_out: int) -> None:
    rows = [make_row(number) for number in range(train + held_out)]
    with image.transaction() as root:
        datasets.add(
            root,
            dataset_id=dataset_id,
            persona="BRICK",
            query="made for a test",
            train=rows[:train],
            held_out=rows[train:],
            counts={},
        )


class ScriptedLog:
    """The log of a kernel that only serves it: segments of encoded records, whole lines at a time."""

    def __init__(self, kernel: str, incarnation: str) -> None:
        self.kernel = kernel
        self.incarnation = incarnation
        self.segments: dict[str, bytes] = {"metacognition.jsonl.0": b""}
        self.seq = 0
        self.reads = 0

    def write(self, event: EventType, **fields: object) -> None:
        record = LogRecord(
            timestamp="2026-11-24T00:00:00Z",
            seq=self.seq,
            prev_hash="0" * 64,
            event_type=event,
            kernel=self.kernel,
            incarnation=self.incarnation,
            **fields,  # type: ignore[arg-type]
        )
        self.seq += 1
        self.segments[list(self.segments)[-1]] += encode_record(record) + b"\n"

    def rotate(self) -> None:
        self.segments[f"metacognition.jsonl.{len(self.segments)}"] = b""

    def cycle(self, number: int, persona: str = "BRICK", outcome: str = "COMPLETE") -> None:
        """Log one thought: a prompt, its answer, its end."""
        question, answer = example(number)
        prompt = [{"role": "system", "content": f"You are {persona}."}, {"role": "user", "content": question}]
        ids = {"cycle_id": f"{number:032x}", "mission_id": f"{number:032x}", "active_persona": persona}
        self.write(EventType.LLM_PROMPT, prompt_hash=f"h{number}", llm_prompt=json.dumps(prompt), **ids)
        self.write(
            EventType.LLM_RESPONSE,
            prompt_hash=f"h{number}",
            llm_response_raw=answer,
            detail={"finish_reason": "stop"},
            **ids,
        )
        self.write(EventType.FINAL_OUTCOME, final_outcome=outcome, **ids)

    async def read(self, message: LogRead, _context: RequestContext) -> LogChunk:
        self.reads += 1
        names = list(self.segments)
        name = message.segment or names[0]
        if name not in self.segments:
            raise RequestFailed("segment_unknown", f"there is no log segment {name!r}")
        whole = self.segments[name]
        data = whole[message.offset : message.offset + message.limit]
        data = data[: data.rfind(b"\n") + 1]
        end = message.offset + len(data)
        following = names[names.index(name) + 1 :]
        return LogChunk(
            segment=name,
            offset=message.offset,
            data=data,
            next_offset=end,
            next_segment=following[0] if following and end == len(whole) else "",
            kernel=self.kernel,
        )


@asynccontextmanager
async def log_server(peers: Peers, log: ScriptedLog) -> AsyncIterator[Peer]:
    """Serve a log on the bus as a kernel does."""
    peer = await peers.join(make_card(log.kernel), start=False)
    peer.serve([f"kernel/{log.kernel}"], {LogRead: log.read}, capacity=4)
    await peer.start()
    await peer.wait_connected(20)
    yield peer
    await peer.close()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def running_programs(words: Sequence[str]) -> list[int]:
    """Process ids of programs whose command line holds all these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if all(word in line for word in words):
            found.append(int(path.parent.name))
    return found
