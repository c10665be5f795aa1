from __future__ import annotations

import asyncio
import re
from collections import Counter
from functools import partial

import msgspec
import pytest
import zmq
import zmq.asyncio
from integration.bus_fixtures import BusUnderTest, Peers, make_card, until

from batos.protocol import (
    TYPE_FRAMES,
    Drain,
    Draining,
    Header,
    Hello,
    Kind,
    LogChunk,
    LogRead,
    MissionAccepted,
    MissionSubmit,
    Peer,
    Ping,
    Pong,
    ProtocolError,
    RemoteError,
    RequestContext,
    RequestFailed,
    RequestTimeout,
    Roster,
    RosterGet,
    VesselChanged,
    decode_body,
    encode,
    encode_header,
    new_id,
    open_frames,
)


def submit(mission: str, text: str = "t") -> MissionSubmit:
    return MissionSubmit(mission_id=mission, text=text)


async def accept(message: MissionSubmit, _context: RequestContext) -> MissionAccepted:
    return MissionAccepted(mission_id=message.mission_id)


async def test_a_request_is_answered(bus: BusUnderTest, peers: Peers) -> None:
    """Over real sockets with CURVE a request reaches a vessel and its reply comes back."""
    seen: list[RequestContext] = []

    async def note(message: MissionSubmit, context: RequestContext) -> MissionAccepted:
        seen.append(context)
        return MissionAccepted(mission_id=message.mission_id)

    kernel = await peers.join(make_card("kernel-1"))
    kernel.serve(["kernel", "kernel/kernel-1"], {MissionSubmit: note}, 4)
    console = await peers.join(make_card("console", kind="console"))
    for service in ("kernel", "kernel/kernel-1"):
        assert await console.request(service, submit("m"), MissionAccepted, timeout_s=10, parent="p") == (
            MissionAccepted(mission_id="m")
        )
    assert (seen[0].sender, seen[0].parent, seen[0].attempt) == ("console", "p", 0)
    assert bus.process is not None


async def test_many_requests_in_flight_share_the_vessels(bus: BusUnderTest, peers: Peers) -> None:
    """64 at a time over two vessels: each answer belongs to its question, and both vessels work."""
    by: Counter[str] = Counter()
    most: Counter[str] = Counter()
    now: Counter[str] = Counter()
    for name in ("kernel-1", "kernel-2"):

        async def work(message: MissionSubmit, _context: RequestContext, name: str = name) -> MissionAccepted:
            now[name] += 1
            most[name] = max(most[name], now[name])
            await asyncio.sleep(0.001)
            now[name] -= 1
            by[name] += 1
            return MissionAccepted(mission_id=message.mission_id)

        kernel = await peers.join(make_card(name))
        kernel.serve(["kernel"], {MissionSubmit: work}, 16)
    console = await peers.join(make_card("console"))
    gate = asyncio.Semaphore(64)

    async def ask(number: int) -> str:
        async with gate:
            reply = await console.request("kernel", submit(str(number)), MissionAccepted, timeout_s=60)
            return reply.mission_id

    answers = await asyncio.gather(*[ask(number) for number in range(1_000)])
    assert answers == [str(number) for number in range(1_000)]
    assert sum(by.values()) == 1_000
    assert min(by.values()) > 300
    assert max(most.values()) <= 16
    assert console.stats.resent == 0
    text = await bus.metrics(console)
    assert 'batos_bus_requests_total{channel="work",outcome="replied",service="kernel"} 1000.0' in text


async def test_a_repeated_id_is_executed_once(bus: BusUnderTest, peers: Peers) -> None:
    """Calls of several peers under one id, at once and later, have one execution and one answer."""
    executed: list[str] = []

    async def count(message: MissionSubmit, _context: RequestContext) -> MissionAccepted:
        executed.append(message.mission_id)
        await asyncio.sleep(0.05)
        return MissionAccepted(mission_id=f"execution {len(executed)}")

    for name in ("kernel-1", "kernel-2"):
        kernel = await peers.join(make_card(name))
        kernel.serve(["kernel"], {MissionSubmit: count}, 4)
    console = await peers.join(make_card("console"))
    one = new_id()
    for _ in range(2):
        answers = await asyncio.gather(
            *[console.request("kernel", submit("m"), MissionAccepted, timeout_s=10, request_id=one) for _ in range(3)]
        )
        assert {answer.mission_id for answer in answers} == {"execution 1"}
    assert executed == ["m"]
    assert bus.process is not None


async def test_errors_reach_who_asked(bus: BusUnderTest, peers: Peers) -> None:
    """What a handler refuses is raised where it was asked, with code and hint."""

    async def refuse(_message: MissionSubmit, _context: RequestContext) -> MissionAccepted:
        raise RequestFailed("mission_empty", "the mission has no text", "say something")

    kernel = await peers.join(make_card("kernel-1"))
    kernel.serve(["kernel"], {MissionSubmit: refuse}, 4)
    console = await peers.join(make_card("console"))
    with pytest.raises(RemoteError, match="say something") as caught:
        await console.request("kernel", submit("m"), MissionAccepted, timeout_s=10)
    assert caught.value.code == "mission_empty"
    with pytest.raises(RemoteError) as unserved:
        await console.request("kernel", Ping(), Pong, timeout_s=10)
    assert unserved.value.code == "not_served"
    assert bus.process is not None


async def test_nobody_serves_is_a_timeout_that_says_whom(bus: BusUnderTest, peers: Peers) -> None:
    """A service that nobody serves ends with the deadline, by name."""
    console = await peers.join(make_card("console"))
    with pytest.raises(RequestTimeout, match=r"'curator' within 0\.5 s"):
        await console.request("curator", submit("m"), MissionAccepted, timeout_s=0.5)
    assert bus.process is not None


async def test_the_roster_names_everybody_and_the_bus(bus: BusUnderTest, peers: Peers) -> None:
    """The bus answers who is there, itself first, with its own card."""
    await peers.join(make_card("kernel-1", ready=False))
    console = await peers.join(make_card("console", kind="console"))
    roster = await console.request("bus", RosterGet(), Roster, timeout_s=10)
    assert [(card.name, card.kind, card.ready) for card in roster.vessels] == [
        ("bus", "bus", True),
        ("console", "console", True),
        ("kernel-1", "kernel", False),
    ]
    assert bus.process is not None
    assert roster.vessels[0].pid == bus.process.pid
    assert roster.vessels[0].incarnation == roster.bus_incarnation
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/metrics", roster.vessels[0].metrics)


async def test_control_reaches_one_vessel_by_name_or_incarnation(bus: BusUnderTest, peers: Peers) -> None:
    """A name is its newest ready incarnation's, an incarnation is itself."""
    cards = {"old": make_card("kernel-1", started_at=1.0), "new": make_card("kernel-1", started_at=2.0, ready=False)}
    made: dict[str, Peer] = {}
    for name in cards:

        async def pong(_message: Ping, _context: RequestContext, which: str = name) -> Pong:
            return Pong(card=cards[which])

        peer = made[name] = await peers.join(partial(cards.__getitem__, name), start=False)
        peer.serve_control({Ping: pong})
        await peer.start()
        await peer.wait_connected(10)
    console = await peers.join(make_card("console"))
    old, new = cards["old"].incarnation, cards["new"].incarnation

    async def pinged(target: str) -> str:
        return (await console.control(target, Ping(), Pong, timeout_s=10)).card.incarnation

    assert [await pinged(target) for target in ("kernel-1", old, new)] == [old, old, new]
    async with console.subscribe("fleet") as events:
        cards["new"] = msgspec.structs.replace(cards["new"], ready=True)
        made["new"].announce()
        async with asyncio.timeout(10):
            async for event in events:
                if isinstance(event, VesselChanged) and event.change == "ready":
                    break
    assert [await pinged(target) for target in ("kernel-1", old, new)] == [new, old, new]
    assert (await console.control("bus", Ping(), Pong, timeout_s=10)).card.kind == "bus"
    assert bus.process is not None


async def test_the_bus_drains_in_order(bus: BusUnderTest, peers: Peers) -> None:
    """Asked to drain over the control channel it answers and exits with 0."""
    console = await peers.join(make_card("console"))
    assert isinstance(await console.control("bus", Drain(), Draining, timeout_s=10), Draining)
    assert bus.process is not None
    process = bus.process
    await until(lambda: process.poll() is not None, "the bus to exit")
    assert bus.kill() == 0


async def test_goodbye_ends_new_work_but_not_what_runs(bus: BusUnderTest, peers: Peers) -> None:
    """A draining vessel answers what it has, the next request goes to another."""
    go = asyncio.Event()
    began = asyncio.Event()

    async def slow(message: MissionSubmit, _context: RequestContext) -> MissionAccepted:
        began.set()
        await go.wait()
        return MissionAccepted(mission_id=f"{message.mission_id} by 1")

    async def quick(message: MissionSubmit, _context: RequestContext) -> MissionAccepted:
        return MissionAccepted(mission_id=f"{message.mission_id} by 2")

    first = await peers.join(make_card("kernel-1"))
    first.serve(["kernel"], {MissionSubmit: slow}, 8)
    console = await peers.join(make_card("console"))
    running = asyncio.create_task(console.request("kernel", submit("a"), MissionAccepted, timeout_s=20))
    await asyncio.wait_for(began.wait(), 10)
    assert first.running == 1
    await first.goodbye()
    waiting = asyncio.create_task(console.request("kernel", submit("b"), MissionAccepted, timeout_s=20))
    second = await peers.join(make_card("kernel-2"))
    second.serve(["kernel"], {MissionSubmit: quick}, 8)
    assert (await waiting).mission_id == "b by 2"
    go.set()
    assert (await running).mission_id == "a by 1"
    assert first.running == 0
    assert bus.process is not None


async def test_cancelling_a_call_stops_the_handler(bus: BusUnderTest, peers: Peers) -> None:
    """Who works on a request learns that nobody waits for it any more."""
    began, stopped = asyncio.Event(), asyncio.Event()

    async def endless(_message: MissionSubmit, _context: RequestContext) -> MissionAccepted:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        raise AssertionError

    kernel = await peers.join(make_card("kernel-1"))
    kernel.serve(["kernel"], {MissionSubmit: endless}, 1)
    console = await peers.join(make_card("console"))
    call = asyncio.create_task(console.request("kernel", submit("m"), MissionAccepted, timeout_s=60))
    await asyncio.wait_for(began.wait(), 10)
    call.cancel()
    await asyncio.wait_for(stopped.wait(), 10)
    assert kernel.running == 0
    assert bus.process is not None


async def test_large_bodies_travel_and_too_large_ones_are_refused(bus: BusUnderTest, peers: Peers) -> None:
    """30 MB arrive whole; beyond the bus's bound both sides get an error that says so."""

    async def read(message: LogRead, _context: RequestContext) -> LogChunk:
        return LogChunk(segment="s", offset=0, data=bytes(message.limit), next_offset=message.limit)

    kernel = await peers.join(make_card("kernel-1"))
    kernel.serve(["kernel"], {LogRead: read, MissionSubmit: accept}, 2)
    console = await peers.join(make_card("console"))
    chunk = await console.request("kernel", LogRead(limit=30_000_000), LogChunk, timeout_s=60)
    assert len(chunk.data) == 30_000_000
    with pytest.raises(RemoteError, match="in parts"):
        await console.request("kernel", LogRead(limit=70_000_000), LogChunk, timeout_s=60)
    with pytest.raises(ProtocolError, match="in parts"):
        await console.request("kernel", submit("m", "x" * 70_000_000), MissionAccepted, timeout_s=60)
    await console.request("kernel", submit("m"), MissionAccepted, timeout_s=10)
    assert bus.process is not None


async def test_garbage_gets_an_error_reply_and_everybody_stays(bus: BusUnderTest, peers: Peers) -> None:
    """A body that is not msgpack, a header that is none, an unknown kind: each is answered and counted."""
    kernel = await peers.join(make_card("kernel-1"))
    kernel.serve(["kernel"], {MissionSubmit: accept}, 4)
    keys = bus.ring.ensure("vandal")
    card = make_card("vandal")
    context = zmq.asyncio.Context()
    vandal = context.socket(zmq.DEALER)
    try:
        vandal.linger = 0
        vandal.curve_publickey = keys.public.encode()
        vandal.curve_secretkey = keys.secret.encode()
        vandal.curve_serverkey = bus.addresses.server_key.encode()
        vandal.connect(bus.addresses.work)
        await vandal.send_multipart(encode(Kind.HELLO, Header(id=new_id()), Hello(card=card)))

        async def said(frames: list[bytes]) -> str:
            await vandal.send_multipart(frames)
            async with asyncio.timeout(10):
                while True:
                    kind, _, body = open_frames(await vandal.recv_multipart())
                    if kind is Kind.ERROR:
                        error = decode_body(kind, body)
                        return str(getattr(error, "code", ""))

        for service, code in (("kernel", "body_undecodable"), ("bus", "body_undecodable")):
            header = Header(id=new_id(), session=card.incarnation, service=service, deadline=9e9)
            assert await said([TYPE_FRAMES[Kind.REQUEST], encode_header(header), b"\xc1\xc1"]) == code
        assert await said([TYPE_FRAMES[Kind.REQUEST], b"no header", b""]) == "header"
        assert await said([b"\x01\xee", b"", b""]) == "kind"
        assert await said([b"\x09\x10", b"", b""]) == "version"
        assert await said([b"one frame"]) == "frames"
    finally:
        vandal.close()
        context.term()
    assert kernel.stats.undecodable == 1
    console = await peers.join(make_card("console"))
    await console.request("kernel", submit("m"), MissionAccepted, timeout_s=10)
    assert 'batos_bus_undecodable_total{channel="work"} 5.0' in await bus.metrics(console)
