"""The fleet as a roll sees it, over the bus."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from batos.protocol import (
    AbandonSuccessor,
    Drain,
    Draining,
    Peer,
    Progress,
    ProtocolError,
    RemoteError,
    RequestTimeout,
    Roster,
    RosterGet,
    SpawnSuccessor,
    SuccessorAbandoned,
    SuccessorSpawned,
    VesselCard,
)
from batos.supervisor.errors import RollError, RosterUnknown

ROSTER_TIMEOUT_S = 2.0
CONTROL_TIMEOUT_S = 3.0
SPAWN_TIMEOUT_S = 10.0
ABANDON_TIMEOUT_S = 60.0
ALONE = frozenset({"place_single", "place_unknown"})
"""The keeper's refusals that mean: drain it, it is started again by whoever starts it."""

_log = logging.getLogger(__name__)


class BusFleet:
    """Asks bus, vessels and keeper."""

    def __init__(self, peer: Peer, roll_id: str) -> None:
        """Begin.

        Args:
            peer: the supervisor on the bus.
            roll_id: of the roll whose progress is published.
        """
        self._peer = peer
        self._roll_id = roll_id
        self._keeper = "keeper"
        """The keeper's own service once the roster has shown its name: it is asked whether it is ready or not."""

    async def roster(self) -> Sequence[VesselCard]:
        """Return who is there."""
        try:
            roster = await self._peer.request("bus", RosterGet(), Roster, timeout_s=ROSTER_TIMEOUT_S)
        except RequestTimeout as error:
            raise RosterUnknown("roster_unknown", error.message, error.hint) from error
        for card in roster.vessels:
            if card.kind == "keeper":
                self._keeper = f"keeper/{card.name}"
        return roster.vessels

    async def drain(self, incarnation: str, timeout_s: float) -> None:
        """Ask an incarnation to drain."""
        try:
            await self._peer.control(incarnation, Drain(timeout_s=timeout_s), Draining, timeout_s=CONTROL_TIMEOUT_S)
        except RequestTimeout as error:
            _log.warning("no answer to the drain of %s: %s", incarnation, error)
        except RemoteError as error:
            raise RollError(error.code, incarnation, error.message, error.hint) from error

    async def spawn_successor(self, name: str, beside: VesselCard) -> bool:
        """Ask the keeper for a successor."""
        try:
            await self._peer.request(
                self._keeper, SpawnSuccessor(name=name, beside=beside.pid), SuccessorSpawned, timeout_s=SPAWN_TIMEOUT_S
            )
        except RemoteError as error:
            if error.code in ALONE:
                return False
            raise RollError(error.code, name, error.message, error.hint) from error
        except ProtocolError as error:
            raise RollError(error.code, name, error.message, error.hint) from error
        return True

    async def abandon_successor(self, name: str) -> None:
        """Ask the keeper to end a successor."""
        try:
            await self._peer.request(
                self._keeper, AbandonSuccessor(name=name), SuccessorAbandoned, timeout_s=ABANDON_TIMEOUT_S
            )
        except RemoteError as error:
            if error.code not in ALONE:
                raise RollError(error.code, name, error.message, error.hint) from error
        except ProtocolError as error:
            raise RollError(error.code, name, error.message, error.hint) from error

    def report(self, stage: str, fraction: float, detail: str) -> None:
        """Publish how far the roll is, on `progress/roll/<id>`."""
        _log.info("roll %s: %s (%.0f %%): %s", self._roll_id, stage, fraction * 100, detail)
        event = Progress(what="roll", id=self._roll_id, stage=stage, fraction=fraction, detail=detail)
        self._peer.publish(f"progress/roll/{self._roll_id}", event)
