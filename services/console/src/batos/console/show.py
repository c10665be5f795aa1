"""What people and programs see: lines, tables, one JSON object, and a thought while it runs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from batos.console.errors import ConsoleError
from batos.console.thought import ENDED, MS_PER_S, Line, Thought
from batos.protocol import Event, MissionStatus

TICK_S = 0.25
"""How often a moving display is drawn again while nothing happens."""

_PLAIN_WIDTH = 160
"""Columns of tables that are not written to a terminal."""
QUIET_S = 5.0
"""Seconds of silence after which lines say what is being waited for."""
_TAIL_CHARACTERS = 100
_ANSWER_CHARACTERS = 240
"""Of a partial answer, once it is given; the whole stands in the log."""
_SPEAKING_LINES = 3

STATE_STYLES = {
    "COMPLETE": "green",
    "FAILED": "red",
    "UNDONE": "yellow",
    "RUNNING": "yellow",
    "BOUND": "green",
    "REFUSED": "red",
}
PERSONA_STYLES = {"ROBIN": "red", "BRICK": "yellow", "BABS": "blue", "ALFRED": "green"}


def clean(text: str) -> str:
    """Replace what a terminal would obey: models and files may write anything."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def cut(text: str, limit: int) -> str:
    """Shorten a text to so many characters."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


class Screen:
    """Where a command writes: answers to stdout, what went wrong to stderr, with `--json` one object and no words."""

    def __init__(
        self, *, as_json: bool = False, lines: bool = False, out: Console | None = None, err: Console | None = None
    ) -> None:
        """Begin to write.

        Args:
            as_json: one object instead of words.
            lines: whole lines only, and no questions: something else owns the terminal.
            out: instead of stdout.
            err: instead of stderr.
        """
        self.as_json = as_json
        self.lines = lines
        self.out = out or _console(stderr=False)
        self.err = err or _console(stderr=True)

    @property
    def interactive(self) -> bool:
        """Whether a person sits at both ends and may be asked."""
        return not self.lines and sys.stdin.isatty() and self.out.is_terminal

    @property
    def moves(self) -> bool:
        """Whether something on the screen may move."""
        return not self.lines and (self.err if self.as_json else self.out).is_terminal

    def say(self, what: RenderableType) -> None:
        """Write for people; nothing with `--json`."""
        if not self.as_json:
            self.out.print(
                Text(clean(what)) if isinstance(what, str) else what, soft_wrap=isinstance(what, (str, Text))
            )

    def progress(self, text: str) -> None:
        """Write how far something is; with `--json` to stderr."""
        (self.err if self.as_json else self.out).print(Text(clean(text)), soft_wrap=True)

    def result(self, data: dict[str, Any]) -> None:
        """Write the one JSON object; nothing without `--json`."""
        if self.as_json:
            sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")
            sys.stdout.flush()

    def failed(self, error: ConsoleError) -> None:
        """Write what is wrong and what to do about it."""
        words = Text.assemble(("error: ", "bold red"), clean(str(error)), (f" [{error.code}]", "dim"))
        self.err.print(words, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Write something to stderr that is no error."""
        self.err.print(Text(clean(text)), soft_wrap=True)


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr, markup=False, emoji=False, highlight=False, width=None if stream.isatty() else _PLAIN_WIDTH
    )


class View(Protocol):
    """Shows one thought."""

    def event(self, event: Event) -> None:
        """Take in what happened."""

    def note(self, text: str) -> None:
        """Say something about the waiting itself."""

    def tick(self) -> None:
        """Draw again: time has passed."""

    def close(self) -> None:
        """Leave the screen as it is to stay."""


class SilentView:
    """Shows nothing."""

    def event(self, event: Event) -> None:
        """Ignore it."""

    def note(self, text: str) -> None:
        """Ignore it."""

    def tick(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class LineView:
    """Shows a thought as lines: one for each state, one for each answer, and in between how far it is."""

    def __init__(self, thought: Thought, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.thought = thought
        self.console = console
        self._clock = clock
        self._began = self._spoke_at = clock()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the view was made."""
        return self._clock() - self._began

    def event(self, event: Event) -> None:
        """Write the lines that this event is worth."""
        for line in self.thought.feed(event):
            self._print(line_text(line))

    def note(self, text: str) -> None:
        """Write it as a line."""
        self._print(line_text(Line("note", "", text)))

    def tick(self) -> None:
        """After some silence, say who is being listened to."""
        if self._clock() - self._spoke_at < QUIET_S:
            return
        for speaking in self.thought.speaking.values():
            tail = " ".join(clean(speaking.text).split())[-_TAIL_CHARACTERS:]
            self._print(Text(f"  … {speaking.who}: {tail or 'not a word yet'} ({self.elapsed_s:.0f} s)", "dim"))
        if not self.thought.speaking:
            self._print(Text(f"  … {self.thought.state or 'waiting for a kernel'} ({self.elapsed_s:.0f} s)", "dim"))

    def close(self) -> None:
        """Lines stay as they are."""

    def _print(self, text: Text) -> None:
        self.console.print(text, soft_wrap=True)
        self._spoke_at = self._clock()


class LiveView(LineView):
    """The same lines, and under them what is being said right now, token by token."""

    def __init__(self, thought: Thought, console: Console) -> None:
        super().__init__(thought, console)
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._live.start()

    def event(self, event: Event) -> None:
        """Write lines above, draw what is said below."""
        super().event(event)
        self.tick()

    def tick(self) -> None:
        """Draw what is being said."""
        waiting = self.thought.state or "waiting for a kernel"
        header = Text(f"{waiting} · {self.elapsed_s:.0f} s", style="dim")
        saying = [speaking_text(who.who, who.text, self.console.width) for who in self.thought.speaking.values()]
        self._live.update(Group(*saying, header), refresh=True)

    def close(self) -> None:
        """Take the moving part away; the lines stay."""
        self._live.stop()


def speaking_text(who: str, text: str, width: int) -> Text:
    """Render the end of what somebody is saying."""
    said = " ".join(clean(text).split())
    room = max(width - len(who) - 4, 20) * _SPEAKING_LINES
    tail = said if len(said) <= room else "…" + said[-room + 1 :]
    return Text.assemble((f"  {who} ", persona_style(who)), tail)


def line_text(line: Line) -> Text:
    """Render a line of a thought."""
    if line.kind == "state":
        return Text.assemble((f"{line.text:<13}", "bold"), (line.who, persona_style(line.who)))
    text = cut(clean(line.text), _ANSWER_CHARACTERS)
    parts = Text.assemble((f"  {line.who} " if line.who else "  ", persona_style(line.who)), text)
    if line.detail:
        parts.append(f" ({clean(line.detail)})", "dim")
    return parts


def persona_style(who: str) -> str:
    """Return the colour of a persona."""
    return PERSONA_STYLES.get(who.split("/", 1)[0].split(" ", 1)[0], "cyan")


def outcome_text(status: MissionStatus) -> Text:
    """Render how a mission ended."""
    good = status.state in {"COMPLETE", "UNDONE"}
    said = status.answer if good else status.error or "no reason was recorded"
    if status.state not in ENDED:
        said = f"it has not ended yet: batos mission wait {status.mission_id}"
    facts = {
        "mission": status.mission_id,
        "tid": status.tid or "none: the thought left no trace",
        "model": status.model or "-",
        "adapter": status.adapter or "none (base model)",
        "personas": ", ".join(status.personas) or "-",
        "tokens": f"{status.usage.prompt_tokens} read, {status.usage.completion_tokens} written",
        "kernel": status.kernel or "-",
    }
    text = Text.assemble(
        (status.state, STATE_STYLES.get(status.state, "bold")),
        f" in {status.duration_ms / MS_PER_S:.1f} s\n\n",
        clean(said),
        "\n",
    )
    for name, value in facts.items():
        text.append(f"\n{name:<10}", "dim").append(clean(value))
    return text
