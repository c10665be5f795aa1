"""What the kernel does for the forge: training orders, and which adapter a persona answers with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from batos import mind
from batos.kernel import looking
from batos.kernel.metrics import KernelMetrics
from batos.kernel.missions import is_id
from batos.mind import adapters, orders
from batos.mind.orders import Order
from batos.protocol import (
    AdapterBound,
    AdapterLoad,
    AdapterPromote,
    AdapterRollback,
    AdaptersLoaded,
    EngineDescribe,
    EngineDescription,
    OrderCreate,
    OrderGet,
    OrderStatus,
    Peer,
    ProtocolError,
    RequestContext,
    RequestFailed,
    Roster,
    RosterGet,
    VesselCard,
)
from batos.uvm import CommitFateUnknown, CovenantBroken, IdentityGuardian, Image, Transient, plain, seen_tid

REPLICA = "inference"
"""Kind of the vessels that answer prompts, and the service they answer by."""
ASK_TIMEOUT_S = 10.0
BIND_TRIES = 3
"""How often a change of the organization is looked up and tried again after a commit of unknown fate."""

T = TypeVar("T")
_log = logging.getLogger("batos.kernel")


class Learning:
    """Handlers of the forge's requests."""

    def __init__(self, *, peer: Peer, image: Image, kernel: str, load_timeout_s: float, metrics: KernelMetrics) -> None:
        """Begin.

        Args:
            peer: asks the replicas.
            image: where orders and adapters are.
            kernel: name of this kernel, for the transactions' user.
            load_timeout_s: seconds that a replica may take to load an adapter.
            metrics: counts bindings.
        """
        self._peer = peer
        self._image = image
        self._kernel = kernel
        self._load_timeout_s = load_timeout_s
        self._metrics = metrics

    async def create_order(self, message: OrderCreate, context: RequestContext) -> OrderStatus:
        """Record a training order. The same id twice is one order."""
        if not is_id(message.order_id):
            raise RequestFailed(
                "order_id_invalid", "the order's id is malformed", "an id is a UUIDv7 of 32 lower-case hex digits"
            )

        def work(root: mind.Root) -> OrderStatus:
            order = orders.create(
                root,
                order_id=message.order_id,
                persona=message.persona,
                dataset_id=message.dataset_id,
                author=context.sender or "architect",
            )
            return orders.status(order)

        return await self._changed(work, f"training order {message.order_id}")

    async def get_order(self, message: OrderGet, context: RequestContext) -> OrderStatus:
        """Return how a training order stands."""
        del context
        if not message.at:
            return orders.status(await asyncio.to_thread(self._order, message.order_id))

        def work(root: mind.Root) -> OrderStatus:
            return msgspec.structs.replace(orders.status(orders.get(root, message.order_id)), as_of=seen_tid(root))

        return await asyncio.to_thread(self._read, work, message.at)

    async def promote(self, message: AdapterPromote, context: RequestContext) -> AdapterBound:
        """Have every replica load an order's adapter, then bind it. An order that is bound stays as it is."""
        del context
        order = await asyncio.to_thread(self._order, message.order_id)
        if order.state not in {"PASSED", "LOADED", "BOUND"}:
            raise RequestFailed(
                "order_not_passed",
                f"order {order.order_id} is {order.state}: {order.verdict or order.error or 'it is not judged yet'}",
                "only an adapter that passed the gate can be promoted",
            )
        if order.state != "BOUND":
            await self._load_everywhere(order.adapter)
            await self._changed(lambda root: _loaded(root, order.order_id), f"adapter {order.adapter} is loaded")
            await self._changed(
                lambda root: _bind(root, order.order_id, message.approver),
                f"adapter {order.adapter} bound, approved by {message.approver}",
            )
            self._metrics.bindings.labels("promote").inc()
        return await asyncio.to_thread(self._binding, order.order_id)

    async def roll_back(self, message: AdapterRollback, context: RequestContext) -> AdapterBound:
        """Bind what was bound before, for the model that the engine runs. A request's id makes it happen once."""
        del context
        if not message.request_id:
            raise RequestFailed("request_id_missing", "a rollback needs an id", "make one with new_id()")
        engine = await self._peer.request(REPLICA, EngineDescribe(), EngineDescription, timeout_s=ASK_TIMEOUT_S)

        def work(root: mind.Root) -> adapters.RolledBack:
            done = adapters.rollback(
                root, message.persona, engine.model_hash, message.approver, request_id=message.request_id
            )
            IdentityGuardian.check(root)
            return done

        done = await self._changed(work, f"{message.persona} rolled back, approved by {message.approver}")
        self._metrics.bindings.labels("rollback").inc()
        return AdapterBound(
            persona=message.persona.upper(),
            adapter=done.adapter,
            previous=done.previous,
            dna_version=done.dna_version,
            tid=await asyncio.to_thread(self._persona_tid, message.persona),
        )

    async def _load_everywhere(self, adapter: str) -> None:
        """Return once every replica on the bus has confirmed that it can answer with an adapter."""
        roster = await self._peer.request("bus", RosterGet(), Roster, timeout_s=ASK_TIMEOUT_S)
        replicas = [card for card in roster.vessels if card.kind == REPLICA and not card.draining]
        if not replicas:
            raise RequestFailed(
                "no_replica",
                "no vessel is there that could load the adapter",
                "is persona-inference up? `batos status`",
            )
        await asyncio.gather(*(self._load(card, adapter) for card in replicas))

    async def _load(self, card: VesselCard, adapter: str) -> None:
        try:
            loaded = await self._peer.request(
                f"{REPLICA}/{card.name}", AdapterLoad(adapter=adapter), AdaptersLoaded, timeout_s=self._load_timeout_s
            )
        except ProtocolError as error:
            raise RequestFailed(
                "adapter_not_loaded", f"{card.name} did not load {adapter}: {error}", "nothing was bound; see its log"
            ) from error
        if adapter not in loaded.adapters:
            raise RequestFailed(
                "adapter_not_loaded",
                f"{card.name} answers with {', '.join(loaded.adapters) or 'no adapter'}, not with {adapter}",
                "nothing was bound; see its log",
            )

    async def _changed(self, work: Callable[[mind.Root], T], note: str) -> T:
        """Do idempotent work in a transaction; what stands against it becomes an error reply."""
        return await asyncio.to_thread(self._run, work, note)

    def _run(self, work: Callable[[mind.Root], T], note: str) -> T:
        for last in (False,) * (BIND_TRIES - 1) + (True,):
            try:
                return self._image.run(work, user=self._kernel, note=note)
            except CommitFateUnknown as error:
                _log.warning("%s: %s", note, error)
                if last:
                    raise looking.unreachable(error) from error
            except Transient as error:
                raise looking.unreachable(error) from error
            except mind.MindError as error:
                raise RequestFailed(error.code, error.message, error.hint) from error
            except CovenantBroken as error:
                raise RequestFailed("covenant_broken", str(error), "nothing was changed") from error
        raise AssertionError("unreachable: the last try returns or raises")

    def _order(self, order_id: str) -> Order:
        return self._read(lambda root: orders.get(root, order_id))

    def _binding(self, order_id: str) -> AdapterBound:
        return self._read(lambda root: _bound(root, order_id))

    def _persona_tid(self, persona: str) -> str:
        return self._read(lambda root: _tid(mind.persona(root, persona).dna))

    def _read(self, work: Callable[[mind.Root], T], at: str = "") -> T:
        return looking.look(self._image, work, at)


def _loaded(root: mind.Root, order_id: str) -> None:
    if orders.get(root, order_id).state == "PASSED":
        orders.update(root, order_id, state="LOADED")


def _bind(root: mind.Root, order_id: str, approver: str) -> None:
    """Bind an order's adapter and end the order, both or neither."""
    order = orders.get(root, order_id)
    if order.state == "BOUND":
        return
    adapters.bind(root, order.adapter, approver)
    orders.update(root, order_id, state="BOUND")
    IdentityGuardian.check(root)


def _bound(root: mind.Root, order_id: str) -> AdapterBound:
    """Return the binding of an order's persona as it stands."""
    order = orders.get(root, order_id)
    adapter = adapters.get(root, order.adapter)
    dna = plain(mind.persona(root, order.persona).dna)
    past = dna.get("previous", {}).get(adapter.model_hash, [])
    return AdapterBound(
        persona=order.persona,
        adapter=dna.get("adapters", {}).get(adapter.model_hash, ""),
        previous=past[-1] if past else "",
        dna_version=dna["version"],
        tid=_tid(mind.persona(root, order.persona).dna),
    )


def _tid(record: Any) -> str:
    """Return the transaction that wrote a record last."""
    record._p_activate()  # noqa: SLF001 - ZODB's public protocol has underscores
    return bytes(record._p_serial).hex()  # noqa: SLF001 - as above
