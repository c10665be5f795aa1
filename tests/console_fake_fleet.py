"""A fleet that answers from a script, for the console's unit tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from batos.protocol import (
    Event,
    FacetAnswered,
    FacetAsked,
    Message,
    MissionAccepted,
    MissionEnded,
    MissionStatus,
    MissionSubmit,
    MissionWait,
    PromptLabel,
    StateEntered,
    TokenDelta,
    Usage,
)

Answer = Message | Exception | Callable[[Any], Message]


class FakeFleet:
    """Has what commands need of a fleet, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[type[Message], Answer] = {}
        self.asked: list[tuple[str, Message]] = []
        self.up = True
        self._listeners: list[tuple[tuple[str, ...], asyncio.Queue[Event]]] = []

    async def request(self, service: str, body: Message, reply: type[Any], *, timeout_s: float) -> Any:
        assert timeout_s > 0
        self.asked.append((service, body))
        answer = self.answers[type(body)]
        if isinstance(answer, Exception):
            raise answer
        found = answer if isinstance(answer, Message) else answer(body)
        if found is NEVER:
            await asyncio.Event().wait()
        assert isinstance(found, reply)
        return found

    @asynccontextmanager
    async def subscribe(self, *topics: str) -> AsyncIterator[AsyncIterator[Event]]:
        queue: asyncio.Queue[Event] = asyncio.Queue()
        self._listeners.append((topics, queue))

        async def events() -> AsyncIterator[Event]:
            while True:
                yield await queue.get()

        yield events()

    def publish(self, topic: str, *events: Event) -> None:
        for topics, queue in self._listeners:
            if topic.startswith(topics):
                for event in events:
                    queue.put_nowait(event)

    def bodies(self, kind: type[Message]) -> list[Any]:
        return [body for _, body in self.asked if isinstance(body, kind)]

    def thinks(self, ended: Callable[[MissionSubmit], MissionStatus]) -> None:
        """Answer missions: a thought of two states and one prompt, then this status; the image never answers."""

        def submitted(body: MissionSubmit) -> MissionAccepted:
            self.publish(f"mission/{body.mission_id}", *thought(body.mission_id), MissionEnded(status=ended(body)))
            return MissionAccepted(mission_id=body.mission_id)

        self.answers[MissionSubmit] = submitted
        self.answers[MissionWait] = lambda _: NEVER


class _Never(Message, frozen=True):
    """An answer that does not come."""


NEVER = _Never()


def thought(mission_id: str) -> list[Event]:
    label = PromptLabel(mission_id=mission_id, cycle_id="c1", state="DECOMPOSING", step="plan", persona="BRICK")
    return [
        StateEntered(mission_id=mission_id, cycle_id="c1", state="IDLE", persona="orchestrator"),
        StateEntered(mission_id=mission_id, cycle_id="c1", state="DECOMPOSING", persona="BRICK"),
        FacetAsked(label=label, adapter="brick-12"),
        TokenDelta(label=label, text="two "),
        TokenDelta(label=label, text="facets"),
        FacetAnswered(
            label=label, usage=Usage(prompt_tokens=90, completion_tokens=12), duration_ms=1500, adapter="brick-12"
        ),
    ]


def status(mission_id: str, state: str = "COMPLETE", **more: Any) -> MissionStatus:
    fields: dict[str, Any] = {
        "mission_id": mission_id,
        "text": "why",
        "state": state,
        "answer": "because" if state == "COMPLETE" else "",
        "error": "" if state == "COMPLETE" else "the plan was invalid three times",
        "cycle_id": "c1",
        "tid": "03ff" * 4 if state == "COMPLETE" else "",
        "personas": ("BRICK", "ROBIN", "ALFRED"),
        "weaver": "ROBIN",
        "model": "SmolLM2",
        "usage": Usage(prompt_tokens=90, completion_tokens=12),
        "duration_ms": 2500,
        "kernel": "kernel-1",
    }
    return MissionStatus(**{**fields, **more})
