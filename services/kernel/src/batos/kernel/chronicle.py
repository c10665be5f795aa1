"""What one thought leaves in the metacognition log and on the events channel, each line once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import blake2b
from typing import Any

import msgspec

from batos.kernel.ticket import EventSink, LogSink, Ticket
from batos.protocol import Event, EventType, StateEntered

ORCHESTRATOR = "ORCHESTRATOR"
"""Who acts in the states that belong to no persona."""
_KEY_BYTES = 16
"""Of what is kept of a line, to know it again: the line itself may be long."""


class Chronicle:
    """Writes the records of a cycle with everything that all of them share.

    A thought whose commit met a conflict is thought again on a fresh snapshot with the same answers; what was told in
    an earlier run is not told again.

    Attributes:
        state: the state of the state machine in which the cycle is.
        actor: whose state it is: a persona, or the orchestrator.
        snapshot_tid: the newest transaction that the running thought sees.
    """

    def __init__(self, ticket: Ticket, log: LogSink, events: EventSink) -> None:
        self._ticket = ticket
        self._log = log
        self._events = events
        self._told: set[bytes] = set()
        self._earlier: frozenset[bytes] = frozenset()
        self.state = ""
        self.actor = ORCHESTRATOR
        self.snapshot_tid = ""

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Let `thinking` return this chronicle in the calling thread."""
        token = _thinking.set(self)
        try:
            yield
        finally:
            _thinking.reset(token)

    def begin(self, snapshot_tid: str) -> None:
        """Start a run on a snapshot."""
        self._earlier = frozenset(self._told)
        self.state = ""
        self.actor = ORCHESTRATOR
        self.snapshot_tid = snapshot_tid

    def enter(self, state: str, actor: str) -> None:
        """Tell that the cycle entered a state."""
        before, self.state, self.actor = self.state, state, actor
        self.record(EventType.STATE_TRANSITION, detail={"from": before, "to": state})
        self.publish(
            StateEntered(mission_id=self._ticket.mission_id, cycle_id=self._ticket.cycle_id, state=state, persona=actor)
        )

    def record(
        self, event_type: EventType, *, persona: str = "", detail: dict[str, Any] | None = None, **fields: Any
    ) -> None:
        """Append a record.

        Args:
            event_type: what it tells.
            persona: who is active; empty for whoever the state belongs to.
            detail: what else belongs to it; together with type, state, persona and prompt it tells records apart.
            **fields: other fields of `LogRecord`.
        """
        who = persona or self.actor
        key = (event_type, self.state, who, fields.get("prompt_hash", ""), detail)
        if not self._first(key):
            return
        self._log.record(
            event_type,
            cycle_id=self._ticket.cycle_id,
            mission_id=self._ticket.mission_id,
            snapshot_tid=self.snapshot_tid,
            current_state=self.state,
            active_persona=who,
            detail=detail or {},
            **fields,
        )

    def publish(self, event: Event) -> None:
        """Publish an event about the mission."""
        if self._first(event):
            self._events.publish(f"mission/{self._ticket.mission_id}", event)

    def _first(self, what: Any) -> bool:
        key = blake2b(msgspec.json.encode(what, order="deterministic"), digest_size=_KEY_BYTES).digest()
        self._told.add(key)
        return key not in self._earlier


_thinking: ContextVar[Chronicle | None] = ContextVar("thinking", default=None)


def thinking() -> Chronicle | None:
    """Return the chronicle of the cycle that runs in the calling thread; None where none does."""
    return _thinking.get()
