from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest

from batos.protocol import (
    ErrorReply,
    Header,
    Infer,
    Kind,
    Message,
    MissionAccepted,
    MissionSubmit,
    PeerStats,
    Ping,
    Pong,
    RequestContext,
    RequestFailed,
    RequestTimeout,
    Transient,
    VesselCard,
    decode_body,
    encode_body,
    open_frames,
)
from batos.protocol.worker import Handler, ReplyMemory, Worker

CARD = VesselCard(name="kernel-1", kind="kernel", incarnation="k1", pid=1, version="0", started_at=0.0)
SUBMIT = MissionSubmit(mission_id="m", text="t")


class Desk:
    """A worker, and what it said."""

    def __init__(self, handler: Handler | None = None) -> None:
        self.said: list[tuple[Kind, Header, Message]] = []
        self.arrived = asyncio.Event()
        self.stats = PeerStats()
        self.worker = Worker(send=self._take, card=lambda: CARD, stats=self.stats)
        if handler is not None:
            self.worker.add({MissionSubmit: handler})

    def _take(self, frames: list[bytes]) -> bool:
        kind, header, body = open_frames(frames)
        self.said.append((kind, header, decode_body(kind, body)))
        self.arrived.set()
        return True

    def ask(self, request_id: str = "r", *, body: Message = SUBMIT, within_s: float = 30.0, attempt: int = 0) -> None:
        header = Header(
            id=request_id,
            session="c1",
            sender="console",
            service="kernel",
            deadline=time.time() + within_s,
            attempt=attempt,
        )
        self.worker.requested(header, encode_body(body))

    async def answer(self) -> Message:
        async with asyncio.timeout(5):
            await self.arrived.wait()
        self.arrived.clear()
        return self.said[-1][2]


async def test_a_handlers_reply_goes_back_to_its_request() -> None:
    """A reply names its request as parent and repeats its service."""
    seen: list[RequestContext] = []

    async def accept(message: MissionSubmit, context: RequestContext) -> Message:
        seen.append(context)
        return MissionAccepted(mission_id=message.mission_id)

    desk = Desk(accept)
    desk.ask(attempt=3)
    assert await desk.answer() == MissionAccepted(mission_id="m")
    kind, header, _ = desk.said[0]
    assert (kind, header.parent, header.session, header.sender, header.service) == (
        Kind.REPLY,
        "r",
        "k1",
        "kernel-1",
        "kernel",
    )
    assert (seen[0].id, seen[0].sender, seen[0].session, seen[0].attempt) == ("r", "console", "c1", 3)
    assert 25 < seen[0].deadline_s <= 30
    assert desk.stats.handled == 1


async def test_a_repeated_request_is_executed_once() -> None:
    """While it runs and after it was answered, the same id does not start the handler again."""
    go = asyncio.Event()
    executed = 0

    async def slow(message: MissionSubmit, _context: RequestContext) -> Message:
        nonlocal executed
        executed += 1
        await go.wait()
        return MissionAccepted(mission_id=message.mission_id)

    desk = Desk(slow)
    desk.ask()
    await asyncio.sleep(0)
    desk.ask(attempt=1)
    assert desk.worker.running == ("r",)
    go.set()
    first = await desk.answer()
    desk.ask(attempt=2)
    assert await desk.answer() == first
    assert executed == 1
    assert len(desk.said) == 2
    assert desk.stats.duplicates == 2
    assert desk.worker.memory.ids() == ("r",)


@pytest.mark.parametrize("transient", [True, False])
async def test_errors_are_not_remembered(transient: bool) -> None:
    """A request that failed is executed again when it is made again."""
    executed = 0

    async def fail(_message: MissionSubmit, _context: RequestContext) -> Message:
        nonlocal executed
        executed += 1
        raise RequestFailed("busy", "no room", "wait", transient=transient)

    desk = Desk(fail)
    for _ in range(2):
        desk.ask()
        assert await desk.answer() == ErrorReply(code="busy", message="no room", hint="wait", transient=transient)
    assert executed == 2
    assert desk.stats.failed == 2


async def test_a_handlers_own_fault_is_an_internal_error_and_a_log_entry(caplog: pytest.LogCaptureFixture) -> None:
    """The requester learns the type of the fault and where to look; the traceback is logged here."""

    async def broken(_message: MissionSubmit, _context: RequestContext) -> Message:
        raise ZeroDivisionError("a secret detail")

    desk = Desk(broken)
    with caplog.at_level(logging.ERROR, "batos.protocol.worker"):
        desk.ask()
        answer = await desk.answer()
    assert isinstance(answer, ErrorReply)
    assert answer.code == "internal"
    assert "ZeroDivisionError" in answer.message
    assert "secret" not in answer.message
    assert "kernel-1" in answer.hint
    assert not answer.transient
    assert caplog.records[0].exc_info is not None


@pytest.mark.parametrize(
    ("error", "transient"),
    [(Transient("worker_lost", "gone"), True), (RequestTimeout("inference", "Infer", 1.0), False)],
)
async def test_errors_of_requests_made_by_a_handler_are_passed_on(error: Any, transient: bool) -> None:
    """What a handler's own request met keeps its code."""

    async def relay(_message: MissionSubmit, _context: RequestContext) -> Message:
        raise error

    desk = Desk(relay)
    desk.ask()
    answer = await desk.answer()
    assert isinstance(answer, ErrorReply)
    assert (answer.code, answer.transient) == (error.code, transient)


async def test_a_handler_ends_with_its_deadline() -> None:
    """A handler that is not done by its deadline is cancelled, and that is the answer."""
    cancelled = asyncio.Event()

    async def endless(_message: MissionSubmit, _context: RequestContext) -> Message:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    desk = Desk(endless)
    desk.ask(within_s=0.05)
    answer = await desk.answer()
    assert isinstance(answer, ErrorReply)
    assert answer.code == "deadline_passed"
    assert cancelled.is_set()
    assert desk.worker.running == ()


async def test_a_dead_request_is_not_begun() -> None:
    """A request whose deadline has passed reaches no handler."""

    async def never(_message: MissionSubmit, _context: RequestContext) -> Message:
        raise AssertionError

    desk = Desk(never)
    desk.ask(within_s=-1)
    answer = await desk.answer()
    assert isinstance(answer, ErrorReply)
    assert answer.code == "deadline_passed"


async def test_a_cancelled_request_stops() -> None:
    """Who asked may stop a handler; the answer is transient, and nothing is remembered."""

    async def endless(_message: MissionSubmit, _context: RequestContext) -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    desk = Desk(endless)
    desk.ask()
    await asyncio.sleep(0)
    desk.worker.cancel("r")
    desk.worker.cancel("unknown")
    answer = await desk.answer()
    assert isinstance(answer, ErrorReply)
    assert (answer.code, answer.transient) == ("cancelled", True)
    assert desk.worker.running == ()
    assert desk.worker.memory.ids() == ()


async def test_a_stopping_vessel_gives_back_what_it_works_on() -> None:
    """Closing cancels what runs and tells who asked to ask elsewhere."""

    async def endless(_message: MissionSubmit, _context: RequestContext) -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    desk = Desk(endless)
    desk.ask()
    await asyncio.sleep(0)
    await desk.worker.close()
    answer = await desk.answer()
    assert isinstance(answer, ErrorReply)
    assert (answer.code, answer.transient) == ("worker_stopped", True)


async def test_what_nobody_handles_is_refused() -> None:
    """A body without a handler is an error that names both."""
    desk = Desk()
    desk.ask(body=Ping())
    answer = await desk.answer()
    assert isinstance(answer, ErrorReply)
    assert answer.code == "not_served"
    assert "Ping" in answer.message


async def test_a_body_that_is_no_message_is_refused_and_counted() -> None:
    """Garbage gets an error reply and the worker goes on."""
    desk = Desk()
    desk.worker.requested(Header(id="r", deadline=time.time() + 5), b"\xc1garbage")
    answer = await desk.answer()
    assert isinstance(answer, ErrorReply)
    assert answer.code == "body_undecodable"
    assert desk.stats.undecodable == 1


async def test_a_reply_too_large_for_the_bus_is_an_error_reply() -> None:
    """The requester learns that the answer was too large instead of waiting for it."""

    async def huge(_message: MissionSubmit, _context: RequestContext) -> Message:
        return MissionAccepted(mission_id="x" * (65 * 1024 * 1024))

    desk = Desk(huge)
    desk.ask()
    answer = await desk.answer()
    assert isinstance(answer, ErrorReply)
    assert answer.code == "body_too_large"


async def test_two_handlers_for_one_type_are_refused() -> None:
    """A second handler for the same message is a mistake of the vessel."""

    async def pong(_message: Ping, _context: RequestContext) -> Message:
        return Pong(card=CARD)

    desk = Desk()
    desk.worker.add({Ping: pong})
    with pytest.raises(ValueError, match="Ping"):
        desk.worker.add({Infer: pong, Ping: pong})


def test_reply_memory_is_bounded_in_number_and_bytes() -> None:
    """The oldest replies are forgotten first; a reply larger than everything is not kept."""
    memory = ReplyMemory(replies=3, size=10)
    for name in "abcd":
        memory.put(name, b"12")
    assert memory.ids() == ("b", "c", "d")
    memory.put("e", b"1234567")
    assert memory.ids() == ("d", "e")
    memory.put("e", b"1")
    assert memory.get("e") == b"1"
    memory.put("f", b"12345678901")
    assert memory.ids() == ()
    memory.put("g", b"1234567890")
    assert memory.ids() == ("g",)
