"""What the bus itself says on a request channel."""

from __future__ import annotations

from batos.bus.instructions import Send
from batos.protocol import (
    ErrorReply,
    Header,
    HeartbeatAck,
    HelloWanted,
    Kind,
    Message,
    Undecodable,
    VesselCard,
    encode,
    new_id,
)


class Voice:
    """Makes the bus's own messages."""

    def __init__(self, card: VesselCard) -> None:
        self._card = card

    def ack(self) -> list[bytes]:
        """Say that the bus is here."""
        return self._frames(Kind.HEARTBEAT_ACK, HeartbeatAck(bus_incarnation=self._card.incarnation))

    def wanted(self, route: bytes) -> Send:
        """Ask a peer that is not known for its Hello."""
        return Send(route, self._frames(Kind.HELLO_WANTED, HelloWanted(bus_incarnation=self._card.incarnation)))

    def reply(self, route: bytes, request: Header, body: Message) -> Send:
        """Answer a request to the bus itself."""
        return Send(route, self._frames(Kind.REPLY, body, request.id, request.service))

    def error(self, route: bytes, request_id: str, service: str, error: ErrorReply) -> Send:
        """Tell a requester that its request failed."""
        return Send(route, self._frames(Kind.ERROR, error, request_id, service))

    def undecodable(self, route: bytes, error: Undecodable, request: Header | None = None) -> Send:
        """Tell a peer that what it sent is no message."""
        reply = ErrorReply(code=error.code, message=error.message, hint=error.hint)
        if request is None:
            return self.error(route, "", "", reply)
        return self.error(route, request.id, request.service, reply)

    def _frames(self, kind: Kind, body: Message, parent: str = "", service: str = "") -> list[bytes]:
        header = Header(
            id=new_id(), parent=parent, session=self._card.incarnation, sender=self._card.name, service=service
        )
        return encode(kind, header, body)
