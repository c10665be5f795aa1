"""A process on the bus: asks, answers, publishes, subscribes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from batos.protocol.addresses import BusAddresses
from batos.protocol.envelope import Header, Kind, decode_body
from batos.protocol.errors import BusUnreachable, Undecodable
from batos.protocol.events import Publisher, Subscription
from batos.protocol.keys import KeyPair
from batos.protocol.link import Link
from batos.protocol.messages import Cancel, Hello, Message, VesselCard
from batos.protocol.requester import Requester
from batos.protocol.sockets import SocketMaker
from batos.protocol.stats import PeerStats
from batos.protocol.worker import Handler, Worker

R = TypeVar("R", bound=Message)

CONTROL_CAPACITY = 64
"""Control requests that a vessel takes at a time; they are few and short."""

SUBSCRIBE_TIMEOUT_S = 10.0


class _Channel:
    """Link, asking side and answering side of one channel."""

    def __init__(
        self,
        channel: str,
        address: str,
        sockets: SocketMaker,
        card: Callable[[], VesselCard],
        heartbeat_s: float,
        stats: PeerStats,
        count: Callable[[], int],
        heard_elsewhere: Callable[[], bool],
        on_fresh: Callable[[], None] | None = None,
    ) -> None:
        self._card = card
        self._on_fresh = on_fresh
        self.services: tuple[str, ...] = ()
        self.capacity = 1
        self.link = Link(
            channel,
            lambda: sockets.dealer(address, work=channel == "work"),
            card=card,
            hello=self._hello,
            heartbeat_s=heartbeat_s,
            stats=stats,
            count=count,
            on_message=self._received,
            on_fresh=self._fresh,
            heard_elsewhere=heard_elsewhere,
        )
        self.requester = Requester(send=self.link.send, reachable=lambda: self.link.reachable, card=card, stats=stats)
        self.worker = Worker(send=self.link.send, card=card, stats=stats)

    def _hello(self) -> Hello:
        return Hello(
            card=self._card(),
            services=self.services,
            capacity=self.capacity,
            running=self.worker.running,
            answered=self.worker.memory.ids(),
        )

    def _received(self, kind: Kind, header: Header, body: bytes) -> None:
        if kind is Kind.REPLY or kind is Kind.ERROR:
            self.requester.answered(kind, header, body)
        elif kind is Kind.REQUEST:
            self.worker.requested(header, body)
        elif kind is Kind.CANCEL:
            message = decode_body(kind, body)
            if isinstance(message, Cancel):
                self.worker.cancel(message.request_id)
        else:
            raise Undecodable("kind", f"{kind.name} is not for a peer")

    def _fresh(self) -> None:
        self.requester.resend()
        if self._on_fresh is not None:
            self._on_fresh()


class Peer:
    """One per process. All methods belong to the event loop in which `start` ran."""

    def __init__(
        self,
        addresses: BusAddresses,
        keys: KeyPair,
        card: Callable[[], VesselCard],
        *,
        heartbeat_s: float = 1.0,
    ) -> None:
        """Begin without sockets.

        Args:
            addresses: where the bus is and which key it must have.
            keys: this vessel's own pair.
            card: what it says about itself, asked for at every heartbeat; name and incarnation never change.
            heartbeat_s: seconds between heartbeats (0.05 to 60); the bus counts as silent after four of them.
        """
        self._addresses = addresses
        self._keys = keys
        self._card = card
        self._heartbeat_s = heartbeat_s
        self._sweeps: asyncio.Task[None] | None = None
        self._subscriptions: set[Subscription] = set()
        self.stats = PeerStats()
        self._sockets = SocketMaker(keys, server_key=addresses.server_key)
        count = itertools.count(1).__next__
        shared = (self._sockets, card, heartbeat_s, self.stats, count)
        self._work = _Channel("work", addresses.work, *shared, lambda: self._control.link.heard, self._verify)
        self._control = _Channel("control", addresses.control, *shared, lambda: self._work.link.heard)
        self._control.capacity = CONTROL_CAPACITY
        self._publisher = Publisher(lambda: self._sockets.publisher(addresses.publish), card=card, stats=self.stats)

    @property
    def running(self) -> int:
        """Handlers at work on the work channel."""
        return len(self._work.worker.running)

    @property
    def connected(self) -> bool:
        """Whether the bus was heard of lately on both channels."""
        return self._work.link.reachable and self._control.link.reachable

    async def start(self) -> None:
        """Connect and begin to say Hello. Returns at once: requests wait for the bus by themselves."""
        self._work.link.open()
        self._control.link.open()
        self._publisher.open()
        self._sweeps = asyncio.get_running_loop().create_task(self._sweep(), name="peer-sweep")

    async def close(self) -> None:
        """Cancel the handlers at work, say Goodbye and let go of every socket."""
        if self._sweeps is not None:
            self._sweeps.cancel()
            await asyncio.gather(self._sweeps, return_exceptions=True)
            self._sweeps = None
        for channel in (self._work, self._control):
            channel.requester.close()
            await channel.worker.close()
            await channel.link.close()
        for subscription in list(self._subscriptions):
            subscription.close()
        self._publisher.close()
        await asyncio.to_thread(self._sockets.context.term)

    async def wait_connected(self, timeout_s: float) -> None:
        """Return once the bus has answered on both channels.

        Raises:
            BusUnreachable: it has not within the time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._work.link.connected.wait()
                await self._control.link.connected.wait()
        except TimeoutError:
            raise BusUnreachable("bus", "Hello", timeout_s) from None

    def serve(self, services: Sequence[str], handlers: Mapping[type[Message], Handler], capacity: int) -> None:
        """Answer requests to these services on the work channel, from now on or from `start` on.

        Args:
            services: names, for example `kernel` and `kernel/kernel-1`; added to those served already.
            handlers: one for each type of message, whichever of the services it comes by.
            capacity: requests at work at a time over all services, at least 1; the last call's figure holds.
        """
        if capacity < 1:
            raise ValueError(f"a capacity of {capacity} serves nobody")
        self._work.worker.add(handlers)
        self._work.services = tuple(dict.fromkeys((*self._work.services, *services)))
        self._work.capacity = capacity
        self._work.link.greet()

    def serve_control(self, handlers: Mapping[type[Message], Handler]) -> None:
        """Answer control requests to this vessel, under its name and its incarnation."""
        card = self._card()
        self._control.worker.add(handlers)
        self._control.services = (f"vessel/{card.name}", f"vessel/{card.incarnation}")
        self._control.link.greet()

    async def request(
        self,
        service: str,
        body: Message,
        reply: type[R],
        *,
        timeout_s: float,
        parent: str = "",
        request_id: str | None = None,
    ) -> R:
        """Ask a service on the work channel.

        The request is made again under the same id while its failures are transient or the bus is silent, until its
        deadline. Cancelling the call tells who works on it to stop.

        Args:
            service: who is asked, for example `inference`.
            body: what is asked.
            reply: type of the answer.
            timeout_s: seconds until the deadline, more than 0.
            parent: id of what causes this request.
            request_id: an id of the caller's own, for example to ask again after a restart; made if not given.

        Raises:
            RemoteError: the service refused.
            RequestTimeout: no answer before the deadline; `BusUnreachable` where the bus is silent.
        """
        return await self._work.requester.request(
            service, body, reply, timeout_s=timeout_s, parent=parent, request_id=request_id
        )

    async def control(self, target: str, body: Message, reply: type[R], *, timeout_s: float) -> R:
        """Ask one vessel, by name or incarnation, on the control channel; errors as in `request`."""
        return await self._control.requester.request(
            f"vessel/{target}", body, reply, timeout_s=timeout_s, parent="", request_id=None
        )

    def publish(self, topic: str, event: Message) -> None:
        """Publish an event. Never waits; events are kept for a moment while the bus is away."""
        self._publisher.publish(topic, event)

    @asynccontextmanager
    async def subscribe(self, *topics: str, timeout_s: float = SUBSCRIBE_TIMEOUT_S) -> AsyncIterator[Subscription]:
        """Listen to all topics that begin so. Once entered, nothing that is published from then on is left out.

        Raises:
            BusUnreachable: the bus has not seen the subscription within `timeout_s` seconds.
        """
        subscription = Subscription(lambda: self._sockets.subscriber(self._addresses.subscribe), topics, self.stats)
        await subscription.open(timeout_s)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            subscription.close()

    def announce(self) -> None:
        """Tell the bus at once that the card has changed, rather than at the next heartbeat. A no-op before `start`."""
        self._work.link.announce()
        self._control.link.announce()

    async def goodbye(self) -> None:
        """Tell the bus that no new work may come; what runs is still answered, and requests can still be made."""
        self.announce()
        self._work.link.goodbye()

    async def _sweep(self) -> None:
        """Once a heartbeat: send again what is unanswered for long, replace deaf sockets."""
        while True:
            await asyncio.sleep(self._heartbeat_s)
            self._work.requester.sweep()
            self._control.requester.sweep()
            self._publisher.refresh()
            for subscription in self._subscriptions:
                subscription.refresh()

    def _verify(self) -> None:
        """The bus has forgotten this peer: see that the subscriptions have effect again."""
        for subscription in self._subscriptions:
            subscription.verify()
