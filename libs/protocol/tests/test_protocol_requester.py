from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from batos.protocol import (
    BusUnreachable,
    ErrorReply,
    Header,
    Kind,
    Message,
    MissionAccepted,
    MissionSubmit,
    PeerStats,
    ProtocolError,
    RemoteError,
    RequestTimeout,
    VesselCard,
    decode_body,
    encode,
    open_frames,
)
from batos.protocol.requester import Requester

CARD = VesselCard(name="console", kind="console", incarnation="c1", pid=1, version="0", started_at=0.0)
SUBMIT = MissionSubmit(mission_id="m", text="t")
DONE = MissionAccepted(mission_id="m")
BUSY = ErrorReply(code="worker_lost", message="gone", transient=True)


class Line:
    """A requester, what it said, and a scripted other end."""

    def __init__(self, *answers: Message | None, reachable: bool = True) -> None:
        self.said: list[tuple[Kind, Header, Message]] = []
        self.answers = list(answers)
        self.stats = PeerStats()
        self.after: Callable[[], None] = lambda: None
        self.requester = Requester(send=self._take, reachable=lambda: reachable, card=lambda: CARD, stats=self.stats)

    def _take(self, frames: list[bytes]) -> bool:
        kind, header, body = open_frames(frames)
        self.said.append((kind, header, decode_body(kind, body)))
        if kind is Kind.REQUEST and self.answers:
            answer = self.answers.pop(0)
            if answer is not None:
                asyncio.get_running_loop().call_soon(self.answer, header.id, answer)
        self.after()
        return True

    def answer(self, request_id: str, message: Message) -> None:
        kind = Kind.ERROR if isinstance(message, ErrorReply) else Kind.REPLY
        self.requester.answered(*open_frames(encode(kind, Header(id="x", parent=request_id), message)))

    async def ask(self, timeout_s: float = 5.0, request_id: str | None = None) -> MissionAccepted:
        return await self.requester.request(
            "kernel", SUBMIT, MissionAccepted, timeout_s=timeout_s, parent="p", request_id=request_id
        )

    def attempts(self) -> list[tuple[str, int]]:
        return [(header.id, header.attempt) for kind, header, _ in self.said if kind is Kind.REQUEST]


async def test_a_reply_ends_a_request() -> None:
    """The header carries who asks, whom, why and until when."""
    line = Line(DONE)
    assert await line.ask(request_id="r") == DONE
    _, header, body = line.said[0]
    assert (header.id, header.parent, header.session, header.sender, header.service, header.attempt) == (
        "r",
        "p",
        "c1",
        "console",
        "kernel",
        0,
    )
    assert header.deadline > 0
    assert body == SUBMIT
    assert len(line.said) == 1


async def test_only_what_is_transient_is_tried_again_under_the_same_id() -> None:
    """Transient errors are retried with the attempt counted up, until an answer."""
    line = Line(BUSY, BUSY, DONE)
    assert await line.ask(request_id="r") == DONE
    assert line.attempts() == [("r", 0), ("r", 1), ("r", 2)]
    assert line.stats.resent == 2


async def test_a_refusal_is_final() -> None:
    """An error that is not transient is raised at once, with what the other end said."""
    line = Line(ErrorReply(code="mission_empty", message="no text", hint="say something"))
    with pytest.raises(RemoteError, match="say something") as caught:
        await line.ask()
    assert caught.value.code == "mission_empty"
    assert len(line.attempts()) == 1


async def test_no_answer_is_a_timeout_that_names_what_was_waited_for() -> None:
    """At the deadline the call ends, and who may work on it is told."""
    line = Line()
    with pytest.raises(RequestTimeout, match=r"MissionSubmit from service 'kernel' within 0\.05 s"):
        await line.ask(timeout_s=0.05, request_id="r")
    assert line.said[-1][0] is Kind.CANCEL
    assert line.stats.timeouts == 1


async def test_retries_end_with_the_deadline() -> None:
    """A request that only ever meets transient errors ends with a timeout that tells the last one."""
    line = Line(*[BUSY] * 50)
    with pytest.raises(RequestTimeout, match="worker_lost: gone"):
        await line.ask(timeout_s=0.3)
    assert 2 <= len(line.attempts()) < 10


async def test_a_silent_bus_is_told_from_a_silent_service() -> None:
    """Without a sign of the bus the timeout is a `BusUnreachable`."""
    with pytest.raises(BusUnreachable):
        await Line(reachable=False).ask(timeout_s=0.05)


async def test_a_cancelled_call_tells_who_works_on_it() -> None:
    """Cancelling the call sends CANCEL."""
    line = Line()
    call = asyncio.create_task(line.ask(request_id="r"))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    kind, header, _ = line.said[-1]
    assert (kind, header.parent) == (Kind.CANCEL, "r")


async def test_everything_unanswered_is_sent_again_to_a_new_bus() -> None:
    """`resend` repeats what waits for an answer, and nothing else."""
    line = Line(None, DONE)
    first = asyncio.create_task(line.ask(request_id="r1"))
    await asyncio.sleep(0)
    assert await line.ask(request_id="r2") == DONE
    line.answers = [DONE]
    line.requester.resend()
    assert await first == DONE
    assert line.attempts() == [("r1", 0), ("r2", 0), ("r1", 1)]


async def test_two_calls_under_one_id_share_its_answer() -> None:
    """The answer to an id goes to everybody in this process who waits for it."""
    line = Line()
    calls = [asyncio.create_task(line.ask(request_id="r")) for _ in range(2)]
    await asyncio.sleep(0)
    line.answer("r", DONE)
    assert await asyncio.gather(*calls) == [DONE, DONE]


async def test_an_answer_of_another_type_is_an_error() -> None:
    """A reply that is none to this request is not handed out."""
    line = Line(ErrorReply(code="x", message="y"))
    line.answers = []
    call = asyncio.create_task(line.ask(request_id="r"))
    await asyncio.sleep(0)
    line.requester.answered(*open_frames([b"\x01\x11", b"\x92\xa1x\xa1r", b"\x81\xa4type\xa5Other"]))
    with pytest.raises(ProtocolError, match="REPLY"):
        await call
    assert line.stats.undecodable == 1


async def test_an_answer_that_nobody_waits_for_is_counted() -> None:
    """A late reply does no harm."""
    line = Line()
    line.answer("unknown", DONE)
    assert line.stats.replies_unasked == 1


async def test_closing_ends_what_waits() -> None:
    """No call outlives its peer."""
    line = Line()
    call = asyncio.create_task(line.ask())
    await asyncio.sleep(0)
    line.requester.close()
    with pytest.raises(ProtocolError) as caught:
        await call
    assert caught.value.code == "peer_closed"
    with pytest.raises(ProtocolError, match="left the bus"):
        await line.ask()
