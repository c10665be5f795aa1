"""Which kernels think on the image, what each of them serves, and what the image asks of them.

While a fleet is rolled, two releases of the kernel run on one image. Both have to understand all that is in force
there. So each kernel says what it serves when it awakens, and a change that asks for more than a registered kernel
serves is refused. All of this stands in one record: of a kernel that registers and a change that asks for more, at the
same time, one meets a conflict and looks again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import astuple, dataclass
from typing import Any

from packaging.version import Version

from batos.mind.errors import MindError, NotAllowed
from batos.uvm import BadPath, LiveMethod, Root, Transient, UvmObject, place_at

COMPATIBILITY = "compatibility"
FIRST_VERSION = 1
"""Of the image and of the host interface: what there was before either had a number."""


@dataclass(frozen=True)
class Span:
    """The versions from `oldest` to `newest`, both included."""

    oldest: int
    newest: int

    def __contains__(self, version: object) -> bool:
        return isinstance(version, int) and self.oldest <= version <= self.newest

    def __str__(self) -> str:
        return f"{self.newest}" if self.oldest == self.newest else f"{self.oldest} to {self.newest}"


@dataclass(frozen=True)
class Kernel:
    """A kernel that thinks on the image.

    Attributes:
        name: of the vessel.
        incarnation: its start.
        release: of its program.
        host: versions of the host interface that it serves its live methods.
        image: versions of the image that it understands.
    """

    name: str
    incarnation: str
    release: str
    host: Span
    image: Span


class Incompatible(MindError):  # noqa: N818 - it says what happened
    """The image asks for what a kernel does not serve; nothing was changed.

    Attributes:
        what: `host interface` or `image version`.
        version: which one is asked for.
        kernels: the kernels that do not serve it.
    """

    def __init__(self, what: str, version: int, kernels: Collection[Kernel], hint: str, because: str = "") -> None:
        spans = {"host interface": lambda kernel: kernel.host, "image version": lambda kernel: kernel.image}
        serves = ", ".join(f"{one.name} (release {one.release}) serves {spans[what](one)}" for one in kernels)
        asked = f"{because} needs {what} {version}" if because else f"{what} {version} is needed"
        super().__init__("kernel_lacks", f"{asked}, and {serves}", hint)
        self.what = what
        self.version = version
        self.kernels = tuple(kernels)


class StruckOff(Transient):
    """A kernel does not stand among those that think on the image: others took it for gone, and changed what they like.

    It enters itself again as soon as it finds out, where it still understands the image.
    """

    def __init__(self, incarnation: str) -> None:
        super().__init__(
            f"the image does not list the kernel with incarnation {incarnation}: others took it for gone; it enters "
            "itself again, unless the image has changed beyond it"
        )
        self.incarnation = incarnation


def register(root: Root, kernel: Kernel) -> None:
    """Note that a kernel thinks on the image from now on.

    Raises:
        Incompatible: the image asks for what it does not serve.
    """
    check(root, kernel)
    known = registered(root)
    if kernel not in known:
        others = [one for one in known if one.incarnation != kernel.incarnation]
        _record(root).kernels = tuple(astuple(one) for one in (*others, kernel))


def unregister(root: Root, incarnations: Collection[str]) -> list[Kernel]:
    """Forget kernels that do not think on the image any more; return those that it knew."""
    known = registered(root)
    leaving = [one for one in known if one.incarnation in incarnations]
    if leaving:
        _record(root).kernels = tuple(astuple(one) for one in known if one not in leaving)
    return leaving


def registered(root: Root) -> list[Kernel]:
    """Return the kernels that think on the image, the longest there first."""
    found = root.get(COMPATIBILITY)
    return [] if found is None else [_kernel(*stored) for stored in found.kernels]


def standing(root: Root, incarnation: str) -> UvmObject:
    """Return the record in which a kernel stands. Whoever declares it current is not struck off in mid-transaction.

    Raises:
        StruckOff: it stands there no longer, so that the image may have left its shape behind.
    """
    found = root.get(COMPATIBILITY)
    if not isinstance(found, UvmObject) or incarnation not in {one.incarnation for one in registered(root)}:
        raise StruckOff(incarnation)
    return found


def check(root: Root, kernel: Kernel) -> None:
    """Make sure that a kernel serves all that the image asks for.

    Raises:
        Incompatible: it does not.
    """
    # While a migration runs, the image is in two shapes: who thinks on it has to understand both.
    for version in (image_version(root), migrating_to(root)):
        if version and version not in kernel.image:
            raise Incompatible("image version", version, [kernel], _hint_for_image(version, kernel.image))
    for path, needed in host_needs(root).items():
        if needed not in kernel.host:
            newer = "newer" if needed > kernel.host.newest else "older"
            hint = f"start a {newer} release, or revert that method: batos image versions {path}"
            raise Incompatible("host interface", needed, [kernel], hint, path)


def image_version(root: Root) -> int:
    """Return the version of the image."""
    found = root.get(COMPATIBILITY)
    return FIRST_VERSION if found is None else int(found.version)


def migrating_to(root: Root) -> int:
    """Return the version that a migration is bringing the image to; 0 where none has begun."""
    found = root.get(COMPATIBILITY)
    return 0 if found is None else int(found.migrating_to)


def announce_version(root: Root, version: int) -> None:
    """Say that the image is on its way to a version: from this transaction on no kernel registers that lacks it.

    Raises:
        Incompatible: a registered kernel does not understand it.
    """
    require_image(root, version)
    record = _record(root)
    if record.migrating_to != version:
        record.migrating_to = version


def set_image_version(root: Root, version: int) -> None:
    """Give the image a version; it is on its way to no other any more.

    Raises:
        Incompatible: a registered kernel does not understand it.
    """
    require_image(root, version)
    record = _record(root)
    record.version = version
    record.migrating_to = 0


def require_image(root: Root, version: int) -> None:
    """Make sure that every registered kernel understands a version of the image.

    Raises:
        Incompatible: one does not.
    """
    lacking = [one for one in registered(root) if version not in one.image]
    if lacking:
        newer = any(version > one.image.newest for one in lacking)
        hint = (
            "roll the kernels to this release first: batos roll kernel"
            if newer
            else "a kernel there is of a later release, which has left that version behind"
        )
        raise Incompatible("image version", version, lacking, hint)


def host_needs(root: Root) -> dict[str, int]:
    """Return path of each live method that was noted and is still there, and the host interface that it needs."""
    found = root.get(COMPATIBILITY)
    needs = {}
    for path, _ in () if found is None else found.methods:
        method = _method_at(root, path)
        if method is not None:
            needs[path] = method.host
    return needs


def note_method(root: Root, path: str) -> None:
    """Note that the live method at a path has to be served from now on. Call it in the transaction that installs it.

    Raises:
        Incompatible: a registered kernel does not serve what it needs.
    """
    method = _method_at(root, path)
    if method is None:
        return
    lacking = lacking_host(root, method.host)
    if lacking:
        newer = any(method.host > one.host.newest for one in lacking)
        hint = "roll the kernels to a release that does: batos roll kernel" if newer else "write it for a newer one"
        raise Incompatible("host interface", method.host, lacking, hint, path)
    record = _record(root)
    known = dict(record.methods)
    if known.get(path) != method.host:  # written, too, so that a kernel which registers meanwhile meets a conflict
        record.methods = tuple(sorted({**known, path: method.host}.items()))


def note_methods(root: Root) -> None:
    """Note what the known live methods need now, after a change that may have put others in force.

    Raises:
        Incompatible: a registered kernel does not serve what one of them needs.
    """
    for path in host_needs(root):
        note_method(root, path)


def refuse_older_release(root: Root, release: str) -> None:
    """Make sure that no registered kernel is of a newer release: an older one would take back what that one brought.

    Raises:
        NotAllowed: there is one.
    """
    newest = max(registered(root), key=lambda one: Version(one.release), default=None)
    if newest is not None and Version(newest.release) > Version(release):
        raise NotAllowed(
            "release_older",
            f"this kernel is of release {release}, and {newest.name} is of the newer release {newest.release}",
            "ask that one, or roll all kernels to its release: batos roll kernel",
        )


def lacking_host(root: Root, version: int) -> list[Kernel]:
    """Return the registered kernels that do not serve a version of the host interface."""
    return [one for one in registered(root) if version not in one.host]


def _method_at(root: Root, path: str) -> LiveMethod | None:
    try:
        return place_at(root, path).method
    except BadPath:
        return None


def _record(root: Root) -> Any:
    found = root.get(COMPATIBILITY)
    if found is None:
        root[COMPATIBILITY] = found = UvmObject(kernels=(), methods=(), version=FIRST_VERSION, migrating_to=0)
    return found


def _kernel(name: str, incarnation: str, release: str, host: tuple[int, int], image: tuple[int, int]) -> Kernel:
    return Kernel(name, incarnation, release, Span(*host), Span(*image))


def _hint_for_image(version: int, served: Span) -> str:
    if version > served.newest:
        return "start a newer release: this one does not know what this image has become"
    return "migrate it with the release before this one first: batos image migrate"
