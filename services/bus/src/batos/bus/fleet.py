"""Who is there: the cards of all vessels, over both channels, and what changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from batos.protocol import Roster, VesselCard, VesselChanged


class Fleet:
    """The roster. A vessel is there as long as it is there on any channel."""

    def __init__(self, own_card: Callable[[], VesselCard]) -> None:
        """Begin with the bus alone.

        Args:
            own_card: what the bus says of itself.
        """
        self._own_card = own_card
        self._cards: dict[str, VesselCard] = {}
        self._channels: dict[str, set[str]] = {}
        self._seqs: dict[str, int] = {}

    def seen(self, channel: str, card: VesselCard, seq: int) -> list[VesselChanged]:
        """Take a card from a Hello or a heartbeat; return what it changes.

        Args:
            channel: the one on which it came.
            card: what a vessel says of itself.
            seq: its number over both channels; an older card that comes later changes nothing.
        """
        self._channels.setdefault(card.incarnation, set()).add(channel)
        if seq < self._seqs.get(card.incarnation, 0):
            return []
        self._seqs[card.incarnation] = seq
        before = self._cards.get(card.incarnation)
        self._cards[card.incarnation] = card
        changes: list[Literal["joined", "ready", "unready", "draining"]] = []
        if before is None:
            changes.append("joined")
        if card.ready and not (before and before.ready):
            changes.append("ready")
        elif before is not None and before.ready and not card.ready:
            changes.append("unready")
        if card.draining and not (before and before.draining):
            changes.append("draining")
        return [VesselChanged(card=card, change=change) for change in changes]

    def gone(self, channel: str, session: str, *, lost: bool) -> list[VesselChanged]:
        """Take note that an incarnation is no more on a channel: it left in order, or was lost."""
        channels = self._channels.get(session)
        if channels is None:
            return []
        channels.discard(channel)
        if channels:
            return []
        del self._channels[session]
        del self._seqs[session]
        return [VesselChanged(card=self._cards.pop(session), change="lost" if lost else "left")]

    def roster(self) -> Roster:
        """Everybody, the bus first, then by name and start."""
        own = self._own_card()
        others = sorted(self._cards.values(), key=lambda card: (card.name, card.started_at))
        return Roster(bus_incarnation=own.incarnation, bus_started_at=own.started_at, vessels=(own, *others))
