"""The past: the option of whatever looks at the image, and how a kernel is asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import typer

from batos.console.errors import ConsoleError

if TYPE_CHECKING:
    from batos.console.fleet import Fleet
    from batos.console.show import Screen
    from batos.protocol import Message

MOMENT = "A transaction (16 hexadecimal digits), or a time with its zone"


def _named_moment(context: typer.Context, parameter: typer.CallbackParam, value: str) -> str:
    """Refuse a moment that was given and is empty, as `--at "$UNSET"` is: it would mean now."""
    source = context.get_parameter_source(parameter.name or "")
    given = source is not None and source.name != "DEFAULT"
    if given and not value.strip():
        raise typer.BadParameter("it is empty; name a transaction, or a time with its zone")
    return value


At = Annotated[str, typer.Option("--at", callback=_named_moment, help=f"{MOMENT}; default: the newest.")]
Moment = Annotated[str, typer.Argument(metavar="MOMENT", callback=_named_moment, help=f"{MOMENT}.")]


class Dated(Protocol):
    """A view that says up to which transaction it sees: the tid itself, or for a time the one of its very moment."""

    @property
    def as_of(self) -> str:
        """16 hexadecimal digits; empty where the present is shown and was asked for."""


R = TypeVar("R", bound=Any)


async def look(fleet: Fleet, body: Message, reply: type[R], *, at: str, request_s: float) -> R:
    """Ask a kernel for a view of the image.

    Args:
        fleet: the fleet.
        body: what is asked.
        reply: the type of the view.
        at: the moment that `body` names; empty: now.
        request_s: seconds that the answer may take.

    Raises:
        ConsoleError: the kernel that answered knows no past, and showed the present.
    """
    found = await fleet.request("kernel", body, reply, timeout_s=request_s)
    if at and not found.as_of:  # bodies only grow: who does not know the field passes it over
        raise ConsoleError(
            "moment_unheeded",
            "a kernel of an older release answered, which shows only the present here",
            "replace the older ones with `batos roll kernel`, then ask again",
        )
    return found


def say_when(screen: Screen, found: Dated, at: str) -> None:
    """Say of when a view is, where a moment was asked for."""
    if at:
        screen.say(f"as of {found.as_of}: what was committed up to there")
