"""Thoughts, displays and logs as they are shown."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from console_fake_fleet import FakeFleet, status, thought
from rich.console import Console

from batos.console import keeping
from batos.console import status as fleet_status
from batos.console.progress import Moving
from batos.console.rolling import roll_text
from batos.console.session import Session
from batos.console.settings import ConsoleSettings
from batos.console.show import LineView, LiveView, Screen, clean, cut, speaking_text
from batos.console.thought import Thought
from batos.console.watching import Watch
from batos.protocol import (
    FacetAsked,
    MissionEnded,
    Progress,
    PromptLabel,
    StateEntered,
    TokenDelta,
    VesselCard,
    VesselChanged,
)


def screen(*, terminal: bool = False, lines: bool = False) -> Screen:
    def console() -> Console:
        return Console(
            file=io.StringIO(), force_terminal=terminal, width=100, markup=False, highlight=False, emoji=False
        )

    return Screen(out=console(), err=console(), lines=lines)


def written(found: Screen) -> str:
    assert isinstance(found.out.file, io.StringIO)
    return found.out.file.getvalue()


def card(name: str, *, ready: bool = True, started_at: float = 1.0, reason: str = "") -> VesselCard:
    return VesselCard(
        name=name, kind="kernel", incarnation=f"{name}{started_at}", pid=1, version="0", started_at=started_at,
        ready=ready, reason=reason,
    )  # fmt: skip


def test_a_thought_keeps_what_is_being_said() -> None:
    """Until a prompt is answered its tokens are being said; then they are one line; other missions leave no trace."""
    found = Thought("m1")
    events = thought("m1")
    lines = [line for event in events[:-1] for line in found.feed(event)]
    assert [(line.kind, line.text) for line in lines] == [("state", "IDLE"), ("state", "DECOMPOSING")]
    (speaking,) = found.speaking.values()
    assert (speaking.who, speaking.text, speaking.adapter) == ("BRICK/plan", "two facets", "brick-12")
    (answer,) = found.feed(events[-1])
    assert answer.text == "two facets"
    assert found.speaking == {}
    for event in thought("m2"):
        assert found.feed(event) == []
    found.feed(MissionEnded(status=status("m1")))
    assert found.ended is not None


def test_a_thought_that_another_kernel_takes_over() -> None:
    """A thought that begins again in the middle of a prompt says so."""
    found = Thought("m1")
    for event in thought("m1")[:-1]:
        found.feed(event)
    lines = found.feed(StateEntered(mission_id="m1", cycle_id="c2", state="IDLE", persona="orchestrator"))
    assert [line.text for line in lines] == ["the thought begins again", "IDLE"]
    assert found.speaking == {}


def test_facets_speak_side_by_side() -> None:
    """Prompts that are answered at the same time are kept apart."""
    found = Thought("m1")
    labels = [PromptLabel(mission_id="m1", persona=name, facet="sage") for name in ("ROBIN", "BABS")]
    for label in labels:
        found.feed(FacetAsked(label=label))
    for label, text in zip((*labels, *labels), "abcd", strict=True):
        found.feed(TokenDelta(label=label, text=text))
    assert [(speaking.who, speaking.text) for speaking in found.speaking.values()] == [
        ("ROBIN/sage", "ac"),
        ("BABS/sage", "bd"),
    ]


def test_a_terminal_shows_tokens_as_they_come() -> None:
    """On a terminal what is being said is drawn under the lines that stay."""
    found = screen(terminal=True)
    view = LiveView(Thought("m1"), found.out)
    for event in thought("m1")[:-1]:
        view.event(event)
    assert "two facets" in written(found)
    view.close()


def test_lines_break_a_silence() -> None:
    """Without a terminal, who is being listened to is said again after five seconds without a line."""
    found, now = screen(), [0.0]
    view = LineView(Thought("m1"), found.out, clock=lambda: now[0])
    view.tick()
    for event in thought("m1")[:-1]:
        view.event(event)
    for second in range(1, 12):
        now[0] = float(second)
        view.tick()
    assert written(found).splitlines()[2:] == ["  … BRICK/plan: two facets (5 s)", "  … BRICK/plan: two facets (10 s)"]


def test_models_cannot_steer_the_terminal() -> None:
    """Control characters in what a model says are replaced."""
    assert "\x1b" not in clean("a\x1b[2Jb\x07")
    assert clean("täglich\n\tja") == "täglich\n\tja"
    assert "\x1b" not in speaking_text("BRICK", "\x1b[31mred", 80).plain


def test_long_texts_are_cut() -> None:
    """What is longer than its room ends in an ellipsis; what is being said shows its end."""
    assert cut("abcdef", 4) == "abc…"
    assert cut("abc", 4) == "abc"
    said = speaking_text("BRICK", "word " * 500 + "last", 60).plain
    assert said.endswith("last")
    assert len(said) < 60 * 4


def test_progress_moves_on_a_terminal() -> None:
    """On a terminal one line is written over."""
    found = screen(terminal=True)
    with Moving(found, clock=iter(range(100)).__next__) as moving:
        moving.show("a")
        moving.show("b")
        moving.keep("done")
    assert written(found) == "\r\x1b[Ka (1 s)\r\x1b[Kb (2 s)\r\x1b[Kdone (3.0 s)\n\r\x1b[K"


def test_progress_is_few_lines_elsewhere() -> None:
    """Without a terminal a text is written when it is new, and not more often than every two seconds."""
    found = screen()
    now = [0.0]
    with Moving(found, clock=lambda: now[0]) as moving:
        for step, text in enumerate(["a", "b", "c", "c", "d"]):
            now[0] = step * 1.0
            moving.show(text)
    assert written(found).splitlines() == ["a (0 s)", "c (2 s)", "d (4 s)"]


def test_who_is_awaited() -> None:
    """A place is awaited while nobody ready fills it; a successor that is ready fills it."""
    cards = [card("kernel-1"), card("kernel-2", ready=False, reason="awakening")]
    names = ["kernel-1", "kernel-2", "curator"]
    assert keeping.unready(names, cards) == {"kernel-2": "awakening", "curator": "not on the bus yet"}
    assert keeping.unready(["kernel-2"], [*cards, card("kernel-2", started_at=2.0)]) == {}
    assert keeping.unready(["kernel-1"], [card("kernel-1"), card("kernel-1", ready=False, started_at=2.0)]) == {}


def test_last_lines_of_a_log(tmp_path: Path) -> None:
    """The end of a log is read, however long it is; no log has no lines."""
    path = tmp_path / "x.log"
    assert keeping.last_lines(path) == []
    path.write_text("\n".join(f"line {number}" for number in range(10_000)) + "\n\n")
    assert keeping.last_lines(path, 2) == ["line 9998", "line 9999"]


@pytest.mark.parametrize(("seconds", "words"), [(-1, "0 s"), (59.9, "59 s"), (75, "1 min 15 s"), (7300, "2 h 1 min")])
def test_ages_in_words(seconds: float, words: str) -> None:
    """A duration has one unit or two."""
    assert fleet_status.age(seconds) == words


def test_the_watch_tells_own_thoughts_from_others() -> None:
    """Own missions stand plain; others carry their short id and end in one line."""
    found = screen()
    watch = Watch(found)
    watch.own.add("m1")
    for event in (*thought("m1"), *thought("m2"), MissionEnded(status=status("m2"))):
        watch.event(event)
    lines = written(found).splitlines()
    assert lines[0].split() == ["IDLE", "orchestrator"]
    assert "[m2] IDLE" in lines[3]
    assert lines[-1] == "[m2] COMPLETE: because"


def test_the_watch_knows_what_is_being_said_now() -> None:
    """The newest words of a thought are there for the line under the prompt."""
    watch = Watch(screen())
    assert watch.now() == ""
    for event in thought("m1")[:-1]:
        watch.event(event)
    assert watch.now() == "DECOMPOSING BRICK/plan: two facets"
    watch.event(MissionEnded(status=status("m1")))
    assert watch.now() == ""


def test_the_watch_says_each_stage_once() -> None:
    """Progress is a line a stage; vessels that change are lines, consoles are not."""
    found = screen()
    watch = Watch(found)
    for fraction in (0.1, 0.2, 0.3):
        watch.event(Progress(what="forge", id="o1", stage="training", fraction=fraction))
    watch.event(VesselChanged(card=card("kernel-1"), change="lost"))
    console = VesselCard(name="console-1", kind="console", incarnation="c", pid=1, version="0", started_at=0)
    watch.event(VesselChanged(card=console, change="joined"))
    assert written(found).splitlines() == ["forge: training 10%", "kernel-1 lost"]


def test_a_roll_shows_its_own_steps() -> None:
    """Progress and the planks that are rolled are shown; other vessels that change do not hide what is awaited."""
    step = Progress(what="roll", id="r1", stage="draining", fraction=0.3, detail="kernel-1: it finishes its work")
    assert roll_text(step, "kernel") == "roll: draining 30%, kernel-1: it finishes its work"
    joined = VesselChanged(card=card("kernel-1"), change="joined")
    assert roll_text(joined, "kernel") == roll_text(joined, "kernel-1") == "kernel-1 joined"
    keeper = VesselCard(name="keeper", kind="keeper", incarnation="k", pid=1, version="0", started_at=0)
    assert roll_text(VesselChanged(card=keeper, change="unready"), "kernel") == ""


async def test_a_conversation_asks_and_answers(fleet: FakeFleet) -> None:
    """A line of text is a mission; its outcome is shown."""
    fleet.thinks(lambda body: status(body.mission_id))
    found = screen(lines=True)
    session = Session(fleet, ConsoleSettings(), found)
    await session.obey("why?")
    assert "because" in written(found)
    assert len(session.watch.own) == 1


@pytest.mark.parametrize("line", ["/frob", "/status now", "/forge run", '/persona "x', "/forge frob brick"])
async def test_a_conversation_survives_nonsense(fleet: FakeFleet, line: str) -> None:
    """What is not understood is said, and the conversation goes on."""
    found = screen(lines=True)
    session = Session(fleet, ConsoleSettings(), found)
    await session._reported(session.obey(line))
    assert isinstance(found.err.file, io.StringIO)
    assert found.err.file.getvalue().startswith("error: ")
    assert fleet.asked == []


async def test_help_of_the_conversation(fleet: FakeFleet) -> None:
    """/help lists what can be said."""
    found = screen(lines=True)
    await Session(fleet, ConsoleSettings(), found).obey("/help")
    assert "/forge rollback NAME" in written(found)
