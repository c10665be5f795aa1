"""One thought as far as its events tell: takes events, gives the lines worth keeping, knows what is being said now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from batos.protocol import Event, FacetAnswered, FacetAsked, MissionEnded, MissionStatus, PromptLabel, StateEntered
from batos.protocol import TokenDelta as Delta

ENDED = frozenset({"COMPLETE", "FAILED", "UNDONE"})
MS_PER_S = 1000
_KEPT_CHARACTERS = 20_000
"""Of one prompt's answer; it is only shown, the whole stands in the image and the log."""


@dataclass(frozen=True)
class Line:
    """Something worth keeping on the screen.

    Attributes:
        kind: `state` begins a state, `answer` is what a prompt was answered, `note` is about the thought.
        who: persona, and the facet or step she thinks in.
        text: in words.
        detail: figures.
    """

    kind: Literal["state", "answer", "note"]
    who: str
    text: str
    detail: str = ""


@dataclass
class Speaking:
    """A prompt that is being answered."""

    who: str
    adapter: str
    text: str = ""


@dataclass
class Thought:
    """What is known about one mission's thinking."""

    mission_id: str
    state: str = ""
    cycle_id: str = ""
    speaking: dict[PromptLabel, Speaking] = field(default_factory=dict)
    ended: MissionStatus | None = None

    def feed(self, event: Event) -> list[Line]:
        """Take in an event; events of other missions change nothing."""
        if isinstance(event, StateEntered) and event.mission_id == self.mission_id:
            return self._entered(event)
        if isinstance(event, MissionEnded) and event.status.mission_id == self.mission_id:
            self.ended = event.status
            self.speaking.clear()
        elif isinstance(event, (FacetAsked, Delta, FacetAnswered)) and event.label.mission_id == self.mission_id:
            return self._spoken(event)
        return []

    def _entered(self, event: StateEntered) -> list[Line]:
        lines = []
        if self.cycle_id and self.speaking and event.state == "IDLE":
            lines.append(Line("note", event.persona, "the thought begins again"))
        self.state, self.cycle_id = event.state, event.cycle_id
        self.speaking.clear()
        return [*lines, Line("state", event.persona, event.state)]

    def _spoken(self, event: FacetAsked | Delta | FacetAnswered) -> list[Line]:
        label = event.label
        if isinstance(event, FacetAsked):
            self.speaking[label] = Speaking(who(label), event.adapter)
            return []
        if isinstance(event, Delta):
            speaking = self.speaking.setdefault(label, Speaking(who(label), ""))
            speaking.text = (speaking.text + event.text)[-_KEPT_CHARACTERS:]
            return []
        done = self.speaking.pop(label, Speaking(who(label), event.adapter))
        detail = f"{event.usage.completion_tokens} tokens, {event.duration_ms / MS_PER_S:.1f} s"
        if event.adapter:
            detail += f", {event.adapter}"
        return [Line("answer", done.who, " ".join(done.text.split()), detail)]


def who(label: PromptLabel) -> str:
    """Name the one who speaks: persona and facet, or persona and step."""
    place = label.facet or label.step
    return f"{label.persona}/{place}" if place else label.persona


def outcome(status: MissionStatus) -> dict[str, object]:
    """Return what `ask --json` says of a mission, as programs rely on it."""
    return {
        "mission_id": status.mission_id,
        "outcome": status.state,
        "answer": status.answer,
        "cycle_id": status.cycle_id,
        "tid": status.tid,
        "personas": list(status.personas),
        "weaver": status.weaver,
        "model": status.model,
        "adapter": status.adapter,
        "dna_version": status.dna_version,
        "usage": {
            "prompt_tokens": status.usage.prompt_tokens,
            "completion_tokens": status.usage.completion_tokens,
        },
        "duration_ms": status.duration_ms,
        "kernel": status.kernel,
        "error": status.error,
    }
