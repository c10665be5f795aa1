from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import zmq
import zmq.asyncio
from integration.bus_fixtures import BusUnderTest, Peers, Workers, make_card, until

from batos.protocol import (
    BusUnreachable,
    KeyRing,
    MissionAccepted,
    MissionSubmit,
    Peer,
    Ping,
    Pong,
    Progress,
    RequestContext,
    RequestTimeout,
    VesselChanged,
)


def hold(mission: str, path: Path) -> MissionSubmit:
    return MissionSubmit(mission_id=mission, text=f"hold:{path}")


async def test_a_killed_workers_request_is_done_by_another(
    bus: BusUnderTest, peers: Peers, workers: Workers, tmp_path: Path
) -> None:
    """`kill -9` in the middle of a request: it is made again elsewhere, under the same id, and answered."""
    console = await peers.join(make_card("console"))
    first = workers.start("kernel-1")
    go = tmp_path / "go"
    call = asyncio.create_task(console.request("kernel", hold("m", go), MissionAccepted, timeout_s=60))
    await until(lambda: ["begin", "m", str(first.pid)] in workers.done(), "the first worker to begin")
    second = workers.start("kernel-2")
    async with console.subscribe("fleet") as fleet:
        first.kill()
        first.wait(10)
        go.touch()
        assert (await call).mission_id == f"m by {second.pid}"
        async with asyncio.timeout(20):
            async for event in fleet:
                if isinstance(event, VesselChanged) and event.change == "lost":
                    assert event.card.pid == first.pid
                    break
    assert console.stats.resent >= 1
    assert bus.process is not None


async def test_a_killed_bus_comes_back_and_requests_in_flight_complete_once(
    bus: BusUnderTest, peers: Peers, workers: Workers, tmp_path: Path
) -> None:
    """`kill -9` of the bus under requests: after its restart each is answered, and none was executed twice."""
    console = await peers.join(make_card("console"))
    for name in ("kernel-1", "kernel-2"):
        workers.start(name)
    go = tmp_path / "go"
    calls = [
        asyncio.create_task(console.request("kernel", hold(f"m{number}", go), MissionAccepted, timeout_s=60))
        for number in range(10)
    ]
    await until(lambda: len(workers.done()) == 10, "ten beginnings")
    bus.kill()
    bus.start()
    late = asyncio.create_task(console.request("kernel", hold("late", go), MissionAccepted, timeout_s=60))
    await until(lambda: ["begin", "late"] in [line[:2] for line in workers.done()], "the new bus to give out work")
    go.touch()
    await asyncio.gather(*calls, late)
    began = [line[1] for line in workers.done() if line[0] == "begin"]
    assert sorted(began) == sorted(set(began))
    assert len(began) == 11


async def test_answers_given_while_the_bus_is_away_are_not_lost(
    bus: BusUnderTest, peers: Peers, workers: Workers, tmp_path: Path
) -> None:
    """A worker that ends while there is no bus remembers its reply, and it is fetched from there."""
    console = await peers.join(make_card("console"))
    workers.start("kernel-1")
    workers.start("kernel-2")
    go = tmp_path / "go"
    call = asyncio.create_task(console.request("kernel", hold("m", go), MissionAccepted, timeout_s=60))
    await until(lambda: len(workers.done()) == 1, "a beginning")
    bus.kill()
    go.touch()
    await until(lambda: len(workers.done()) == 2, "an end")
    bus.start()
    await call
    assert [line[0] for line in workers.done()] == ["begin", "end"]


async def test_a_bus_that_stands_still_is_connected_to_anew(bus: BusUnderTest, peers: Peers, workers: Workers) -> None:
    """A stopped bus counts as silent; once it runs again everything goes on."""
    console = await peers.join(make_card("console"))
    worker = workers.start("kernel-1")
    message = MissionSubmit(mission_id="m", text="t")
    await console.request("kernel", message, MissionAccepted, timeout_s=20)
    assert bus.process is not None
    bus.process.send_signal(signal.SIGSTOP)
    call = asyncio.create_task(console.request("kernel", message, MissionAccepted, timeout_s=60))
    await until(lambda: console.stats.reconnects > 0, "fresh sockets")
    assert not console.connected
    bus.process.send_signal(signal.SIGCONT)
    assert (await call).mission_id == f"m by {worker.pid}"


async def test_without_a_bus_it_says_so(peers: Peers) -> None:
    """The error of a fleet that is not there is its own."""
    console = await peers.join(make_card("console"), start=False)
    await console.start()
    with pytest.raises(BusUnreachable, match="batos status"):
        await console.wait_connected(0.2)
    with pytest.raises(BusUnreachable, match=r"'kernel' within 0\.2 s"):
        await console.request("kernel", Ping(), Pong, timeout_s=0.2)
    with pytest.raises(BusUnreachable, match="fleet"):
        async with console.subscribe("fleet", timeout_s=0.2):
            pass


async def test_an_unknown_key_sees_and_says_nothing(bus: BusUnderTest, peers: Peers, tmp_path: Path) -> None:
    """Who has no admitted key, or none at all, hears no event and gets no answer, while the fleet talks on."""
    kernel = await peers.join(make_card("kernel-1"))

    async def accept(message: MissionSubmit, _context: RequestContext) -> MissionAccepted:
        return MissionAccepted(mission_id=message.mission_id)

    kernel.serve(["kernel"], {MissionSubmit: accept}, 4)
    console = await peers.join(make_card("console"))
    context = zmq.asyncio.Context()
    ears = []
    stranger = KeyRing(tmp_path / "elsewhere").ensure("stranger")
    for secret in (stranger, None):
        for kind, address in (
            (zmq.SUB, bus.addresses.subscribe),
            (zmq.DEALER, bus.addresses.work),
            (zmq.DEALER, bus.addresses.control),
            (zmq.XPUB, bus.addresses.publish),
        ):
            ear = context.socket(kind)
            ear.linger = 0
            if secret is not None:
                ear.curve_publickey = secret.public.encode()
                ear.curve_secretkey = secret.secret.encode()
                ear.curve_serverkey = bus.addresses.server_key.encode()
            if kind == zmq.SUB:
                ear.setsockopt(zmq.SUBSCRIBE, b"")
            ear.connect(address)
            if kind == zmq.DEALER:
                await ear.send_multipart([b"\x01\x10", b"", b""])
            ears.append(ear)
    eavesdropper = Peer(bus.addresses, stranger, lambda: make_card("stranger"), heartbeat_s=0.2)
    await eavesdropper.start()
    try:
        async with console.subscribe("progress/") as events:
            for number in range(50):
                kernel.publish("progress/x/1", Progress(what="x", id="1", stage=str(number)))
                await console.request("kernel", MissionSubmit(mission_id="m", text="t"), MissionAccepted, timeout_s=10)
            heard = [await asyncio.wait_for(anext(events), 10) for _ in range(50)]
        assert len(heard) == 50
        with pytest.raises(RequestTimeout):
            await eavesdropper.request("kernel", Ping(), Pong, timeout_s=1.5)
        with pytest.raises(BusUnreachable):
            async with eavesdropper.subscribe("progress/", timeout_s=0.5):
                pass
        for ear in ears:
            assert not await ear.poll(0)
        metrics = await bus.metrics(console)
        assert "batos_bus_refused_keys_total 0.0" not in metrics
        assert "batos_bus_refused_keys_total" in metrics
    finally:
        await eavesdropper.close()
        for ear in ears:
            ear.close()
        context.term()


async def test_a_key_that_comes_later_is_admitted(bus: BusUnderTest, peers: Peers, tmp_path: Path) -> None:
    """Putting a public key into the folder admits its vessel without a restart of anything."""
    await peers.join(make_card("console"))
    guest = KeyRing(tmp_path / "elsewhere").ensure("guest")
    card = make_card("guest")
    peer = Peer(bus.addresses, guest, lambda: card, heartbeat_s=0.1)
    await peer.start()
    try:
        with pytest.raises(BusUnreachable):
            await peer.wait_connected(0.5)
        (tmp_path / "elsewhere" / "guest.public").rename(bus.home / "keys" / "guest.public")
        await peer.wait_connected(20)
    finally:
        await peer.close()


async def test_a_wrong_server_key_is_met_with_silence(bus: BusUnderTest, peers: Peers) -> None:
    """A peer does not talk to a bus that cannot prove to be the one it expects."""
    await peers.join(make_card("console"))
    wrong = type(bus.addresses)(
        bus.addresses.work,
        bus.addresses.control,
        bus.addresses.publish,
        bus.addresses.subscribe,
        bus.ring.ensure("console").public,
    )
    card = make_card("kernel-1")
    peer = Peer(wrong, bus.ring.ensure("kernel-1"), lambda: card, heartbeat_s=0.1)
    await peer.start()
    try:
        with pytest.raises(BusUnreachable):
            await peer.wait_connected(0.5)
    finally:
        await peer.close()


async def test_a_subscription_is_effective_on_entering(bus: BusUnderTest, peers: Peers) -> None:
    """The first event after entering is never missed, and other topics are not heard."""
    kernel = await peers.join(make_card("kernel-1"))
    console = await peers.join(make_card("console"))
    for number in range(25):
        async with console.subscribe(f"progress/forge/{number}", "progress/other") as events:
            kernel.publish("progress/none", Progress(what="none", id="", stage=""))
            kernel.publish(f"progress/forge/{number}", Progress(what="forge", id=str(number), stage="first"))
            kernel.publish("progress/other", Progress(what="other", id="", stage=""))
            heard = [await asyncio.wait_for(anext(events), 10) for _ in range(2)]
            assert [event.what for event in heard if isinstance(event, Progress)] == ["forge", "other"]
            assert events.missed == 0
    assert bus.process is not None


async def test_a_burst_of_events_arrives_whole_and_in_order(bus: BusUnderTest, peers: Peers) -> None:
    """More events at once than ZeroMQ's own bounds are not dropped."""
    kernel = await peers.join(make_card("kernel-1"))
    console = await peers.join(make_card("console"))
    async with console.subscribe("progress/") as events:
        kernel.publish("progress/x", Progress(what="x", id="", stage="the bus listens"))
        await asyncio.wait_for(anext(events), 20)
        for number in range(20_000):
            kernel.publish("progress/x", Progress(what="x", id="", stage=str(number)))
        for number in range(20_000):
            event = await asyncio.wait_for(anext(events), 20)
            assert isinstance(event, Progress)
            assert event.stage == str(number)
        assert events.missed == 0
    assert kernel.stats.events_dropped == 0
    assert bus.process is not None


async def test_events_outlive_a_restart_of_the_bus(bus: BusUnderTest, peers: Peers) -> None:
    """What is published while the bus is away arrives when it is back, at subscriptions that were there before."""
    kernel = await peers.join(make_card("kernel-1"))
    console = await peers.join(make_card("console"))
    async with console.subscribe("progress/") as events:
        kernel.publish("progress/x", Progress(what="x", id="", stage="before"))
        assert await asyncio.wait_for(anext(events), 10) == Progress(what="x", id="", stage="before")
        bus.kill()
        await until(lambda: not kernel.connected, "the bus to be missed")
        kernel.publish("progress/x", Progress(what="x", id="", stage="meanwhile"))
        bus.start()
        assert await asyncio.wait_for(anext(events), 20) == Progress(what="x", id="", stage="meanwhile")
        kernel.publish("progress/x", Progress(what="x", id="", stage="after"))
        assert await asyncio.wait_for(anext(events), 20) == Progress(what="x", id="", stage="after")
        assert events.missed == 0


async def test_the_fleet_is_told_of_changes(bus: BusUnderTest, peers: Peers) -> None:
    """Joining, becoming ready, draining and leaving are events on `fleet`."""
    console = await peers.join(make_card("console"))
    card = make_card("kernel-1", ready=False)
    async with console.subscribe("fleet") as events:
        kernel = await peers.join(lambda: card)
        card = msgspec.structs.replace(card, ready=True)
        kernel.announce()
        await asyncio.sleep(0)
        card = msgspec.structs.replace(card, ready=False, draining=True)
        await kernel.goodbye()
        await kernel.close()
        changes = []
        async with asyncio.timeout(20):
            async for event in events:
                assert isinstance(event, VesselChanged)
                if event.card.name == "kernel-1":
                    changes.append(event.change)
                if event.change == "left":
                    break
    assert changes == ["joined", "ready", "unready", "draining", "left"]
    assert bus.process is not None


def test_an_occupied_address_is_one_clear_line(stopped_bus: BusUnderTest) -> None:
    """The second bus on an address says which it is and what to set, and exits with 1."""
    environment = stopped_bus.environment
    with zmq.Context() as context, context.socket(zmq.ROUTER) as squatter:
        squatter.bind(stopped_bus.addresses.control)
        ended = subprocess.run(
            [sys.executable, "-m", "batos.bus"],
            env=environment,
            cwd=stopped_bus.home,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert ended.returncode == 1
    lines = [line for line in ended.stderr.splitlines() if "ERROR" in line]
    assert len(lines) == 1
    assert stopped_bus.addresses.control in lines[0]
    assert "BATOS_BUS_CONTROL" in lines[0]
    assert "Traceback" not in ended.stderr


def test_a_foreign_server_key_is_one_clear_line(stopped_bus: BusUnderTest) -> None:
    """A bus whose key is not the one that the fleet expects does not start."""
    ended = subprocess.run(
        [sys.executable, "-m", "batos.bus"],
        env=stopped_bus.environment | {"BATOS_BUS_SERVER_KEY": stopped_bus.ring.ensure("other").public},
        cwd=stopped_bus.home,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    assert "BATOS_BUS_SERVER_KEY" in ended.stderr.splitlines()[-1]


async def test_sigterm_ends_the_bus_in_order(bus: BusUnderTest, peers: Peers) -> None:
    """SIGTERM is an exit with 0 that leaves nothing behind."""
    await peers.join(make_card("console"))
    assert bus.kill(signal.SIGTERM) == 0
    assert not any("Traceback" in said for said in bus.output)
    assert os.getpid()
