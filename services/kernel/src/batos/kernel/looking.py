"""Looking into the image for somebody on the bus: as it is, or as it was; what goes wrong becomes a refusal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from batos import mind
from batos.kernel.errors import KernelError
from batos.protocol import RequestFailed
from batos.uvm import Image, ImageUnreachable, Root, Transient, UvmError

T = TypeVar("T")


def look(image: Image, work: Callable[[Root], T], at: str = "") -> T:
    """Return what `work` finds in a view of the image.

    Args:
        image: the image.
        work: gets the root of the view.
        at: a moment of the past, as the bus has it; empty: now.

    Raises:
        RequestFailed: the moment is none, or cannot be looked at; or what `work` raised, as a refusal.
    """
    with refusals(), view(image, at) as root:
        return work(root)


def view(image: Image, at: str = "") -> AbstractContextManager[Root]:
    """Return the view of the image as of a moment; empty: now."""
    return image.at(at) if at else image.snapshot()


class _Refusals(AbstractContextManager[None]):
    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, mind.MindError | KernelError):
            raise RequestFailed(error.code, error.message, error.hint) from error
        if isinstance(error, ImageUnreachable):
            raise unreachable(error) from error
        if isinstance(error, Transient):
            raise RequestFailed("image_busy", str(error), "try again", transient=True) from error
        if isinstance(error, UvmError):
            raise RequestFailed(_CODES.get(type(error).__name__, "image_refused"), str(error)) from error


def refusals() -> AbstractContextManager[None]:
    """Turn what the image raises into refusals that the bus carries."""
    return _Refusals()


def unreachable(error: Exception) -> RequestFailed:
    """Return what to say where the image does not answer: the same request may succeed later."""
    return RequestFailed(
        "image_unreachable", f"the image does not answer: {error}", "is it up? see `batos status`", transient=True
    )


_CODES = {
    "BadMoment": "moment_invalid",
    "BadPath": "path_unknown",
    "NoAncestor": "ancestor_unknown",
    "NoSuchMoment": "moment_unknown",
    "NoSuchVersion": "version_unknown",
    "BrokenMethod": "method_broken",
    "BadSlotName": "method_name",
    "CovenantBroken": "covenant_broken",
    "CommitFateUnknown": "commit_fate_unknown",
}
