"""What can go wrong between vessels. Only a `Transient` is ever retried."""

from __future__ import annotations


class ProtocolError(Exception):
    """The root of all errors of this package.

    Attributes:
        code: stable, for programs, for example `service_unknown`.
        message: what is wrong.
        hint: what to do about it; may be empty.
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(code, message, hint)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class RemoteError(ProtocolError):
    """The vessel that was asked said no; the same request would be refused again."""


class Transient(ProtocolError):  # noqa: N818 - it names a property that callers ask for, not a fault
    """The same request may succeed if it is made again."""


class RequestTimeout(ProtocolError):  # noqa: N818 - a timeout is what it is
    """No answer before the deadline.

    Attributes:
        service: who was asked.
        request: type of the body that was sent.
        seconds: how long it was waited for.
    """

    code_name = "request_timeout"
    why = "no answer"
    advice = "is a vessel of that service ready? see `batos status`"

    def __init__(self, service: str, request: str, seconds: float, last: ProtocolError | None = None) -> None:
        said = f"; the last answer was {last.code}: {last.message}" if last is not None else ""
        super().__init__(
            self.code_name, f"{self.why} to {request} from service {service!r} within {seconds:g} s{said}", self.advice
        )
        self.service = service
        self.request = request
        self.seconds = seconds


class BusUnreachable(RequestTimeout):
    """No answer before the deadline, and the bus itself was silent."""

    code_name = "bus_unreachable"
    why = "the bus is silent; no answer"
    advice = "is the fleet up? see `batos status`; a key that the bus does not know is met with silence, too"


class RequestFailed(ProtocolError):  # noqa: N818 - raised by handlers: this request failed
    """Raised in a handler: becomes an `ErrorReply`.

    Attributes:
        transient: whether the requester should try again by itself.
    """

    def __init__(self, code: str, message: str, hint: str = "", *, transient: bool = False) -> None:
        super().__init__(code, message, hint)
        self.transient = transient


class Undecodable(ProtocolError):  # noqa: N818 - it names what the frames are
    """Frames that are no message of this protocol. Counted and answered, never fatal."""


class BadKey(ProtocolError):  # noqa: N818 - it names what the file holds
    """A key file that is missing, unreadable or not a key."""
