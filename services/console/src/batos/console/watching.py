"""What happens in the fleet while somebody converses with it: thoughts, vessels that come and go, slow work."""

from __future__ import annotations

from collections import OrderedDict

from rich.text import Text

from batos.console.progress import progress_text
from batos.console.show import Screen, clean, cut, line_text
from batos.console.thought import Thought
from batos.protocol import (
    Event,
    FacetAnswered,
    FacetAsked,
    MissionEnded,
    Progress,
    StateEntered,
    TokenDelta,
    VesselChanged,
)

SHORT_ID = 6
_THOUGHTS_KEPT = 100
_STAGES_KEPT = 100
_TAIL_CHARACTERS = 60
_END_CHARACTERS = 80


class Watch:
    """Turns events into lines. Thoughts of one's own missions stand plain, others carry their mission's short id."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._thoughts: OrderedDict[str, Thought] = OrderedDict()
        self._stages: OrderedDict[tuple[str, str], str] = OrderedDict()
        self.own: set[str] = set()

    def event(self, event: Event) -> None:
        """Take in an event and write what it is worth."""
        if isinstance(event, VesselChanged):
            if event.card.kind != "console":
                self._write(Text(clean(f"{event.card.name} {event.change}"), "dim"))
        elif isinstance(event, Progress):
            self._progress(event)
        else:
            self._thought(event, mission_of(event))

    def _thought(self, event: Event, mission_id: str) -> None:
        thought = self._thoughts.setdefault(mission_id, Thought(mission_id))
        if len(self._thoughts) > _THOUGHTS_KEPT:
            self._thoughts.popitem(last=False)
        own = mission_id in self.own
        for line in thought.feed(event):
            self._write(
                line_text(line) if own else Text.assemble((f"[{mission_id[-SHORT_ID:]}] ", "dim"), line_text(line))
            )
        if isinstance(event, MissionEnded):
            self._thoughts.pop(mission_id, None)
            if not own:
                end = event.status
                words = cut(" ".join((end.answer or end.error).split()), _END_CHARACTERS)
                self._write(Text(clean(f"[{mission_id[-SHORT_ID:]}] {end.state}: {words}"), "dim"))

    def _progress(self, event: Progress) -> None:
        key = (event.what, event.id)
        if self._stages.get(key) == event.stage:
            return
        self._stages[key] = event.stage
        if len(self._stages) > _STAGES_KEPT:
            self._stages.popitem(last=False)
        self._write(Text(clean(progress_text(event)), "dim"))

    def _write(self, text: Text) -> None:
        self._screen.out.print(text, soft_wrap=True)

    def now(self) -> str:
        """Say in one line what is being thought right now; empty where nothing is."""
        for thought in reversed(self._thoughts.values()):
            for speaking in reversed(thought.speaking.values()):
                tail = " ".join(clean(speaking.text).split())[-_TAIL_CHARACTERS:]
                return f"{thought.state} {speaking.who}: {tail}"
        return ""


def mission_of(event: Event) -> str:
    """Return the mission that an event belongs to; empty where it belongs to none."""
    if isinstance(event, StateEntered):
        return event.mission_id
    if isinstance(event, (FacetAsked, TokenDelta, FacetAnswered)):
        return event.label.mission_id
    return event.status.mission_id if isinstance(event, MissionEnded) else ""
