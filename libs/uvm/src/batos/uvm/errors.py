"""Everything that can go wrong in the Living Image, under one root. Only a `Transient` is ever worth trying again."""

# ruff: noqa: N818 - errors are named for what happened

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from ZODB.POSException import POSError

from batos.uvm.shown import without_password


class UvmError(Exception):
    """The root of all errors of the Living Image."""


class Transient(UvmError):
    """The same request may succeed later, unchanged."""


class ImageUnreachable(Transient):
    """The storage behind the image did not answer in time. Nothing of the transaction was committed.

    Attributes:
        uri: where the image was looked for, without its password.
        waited_s: for how long, in seconds.
        why: what the storage's client found out, where it says so.
    """

    def __init__(self, uri: str, waited_s: float, what: str = "", why: str = "") -> None:
        self.uri = without_password(uri)
        self.waited_s = waited_s
        self.why = why
        doing = f" while {what}" if what else ""
        reason = f" ({why})" if why else ""
        server = "PostgreSQL runs" if uri.startswith("postgres") else "the image vessel runs (`batos status`)"
        admitted = ", that it admits this certificate" if "tls=" in uri else ""
        super().__init__(
            f"the image at {self.uri} did not answer within {waited_s:g} s{doing}{reason}: check that {server}, "
            f"that the address is right{admitted}"
        )


class Contention(Transient):
    """Others kept changing the same objects, so that a transaction found no moment to commit.

    Attributes:
        note: what the transaction was to do.
        attempts: how often it was tried.
    """

    def __init__(self, note: str, attempts: int) -> None:
        self.note = note
        self.attempts = attempts
        super().__init__(
            f"{note or 'the transaction'} met a conflict in each of {attempts} attempts: other transactions keep "
            "writing the same objects; try again when they have ended"
        )


class CommitFateUnknown(UvmError):
    """The storage went away between the vote and its acknowledgement: the commit is in, or it is not.

    Never repeat such a transaction blindly: look first whether its effect (or its cycle's id) is in the image.
    """

    def __init__(self, uri: str) -> None:
        self.uri = without_password(uri)
        super().__init__(
            f"the image at {self.uri} went away while a commit was being finished: it may or may not be stored; look "
            "for its effect before trying again"
        )


class ImageInUse(UvmError):
    """Another process holds the image's file open for writing."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{path} is held by another process: stop it, or open the image through its zeo:// address")


class ImageUnusable(UvmError):
    """The storage is there, but cannot be opened.

    Attributes:
        uri: where it is.
    """

    def __init__(self, uri: str, cause: Exception) -> None:
        self.uri = without_password(uri)
        super().__init__(
            f"the image at {self.uri} cannot be opened: {type(cause).__name__}: {cause}; check permissions and free "
            "space, or restore the latest backup"
        )


class ImageRefused(UvmError):
    """The storage answers, but does not let this vessel in, or holds something else.

    Attributes:
        uri: where it is, without its password.
        why: what it says.
    """

    def __init__(self, uri: str, why: str, advice: str) -> None:
        self.uri = without_password(uri)
        self.why = why
        super().__init__(f"the image at {self.uri} cannot be opened: {why}; {advice}")


class BadImageUri(UvmError, ValueError):
    """The address of an image cannot be understood."""

    def __init__(self, uri: str, why: str) -> None:
        self.uri = without_password(uri)
        self.why = why
        super().__init__(f"{self.uri!r} is no address of an image: {why}")


class TlsUnusable(UvmError):
    """A file is missing or unusable without which nobody speaks to an image over a network.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, why: str) -> None:
        self.path = path
        super().__init__(
            f"{path} cannot be used for TLS: {why}; make the fleet's keys with `batos keys make`, and mount this "
            "vessel's folder of them"
        )


class BadPath(UvmError, ValueError):
    """A path is none, or leads nowhere.

    Attributes:
        path: as far as it was followed.
        why: what is wrong with it.
    """

    def __init__(self, path: str, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(f"{path!r} leads nowhere: {why}")


class NoSuchVersion(UvmError):
    """A live method has no version of that number."""

    def __init__(self, name: str, number: int, known: Sequence[int]) -> None:
        self.name = name
        self.number = number
        there = f"it has {known[0]} to {known[-1]}" if known else "it has none: no such method was ever installed there"
        super().__init__(f"{name} has no version {number}; {there}")


class NoImageYet(UvmError):
    """The image was opened for reading only, and nothing has been stored there yet."""

    def __init__(self, uri: str) -> None:
        self.uri = without_password(uri)
        super().__init__(
            f"there is no image at {self.uri} yet: open it for writing once, or start the fleet (`batos up`)"
        )


class PackUnderWay(UvmError):
    """Somebody else packs the storage, or undoes something in it: only one may at a time."""

    def __init__(self) -> None:
        super().__init__("a pack of this image is under way already: wait until it has ended")


class NoSuchMoment(UvmError):
    """The image cannot be opened as of that moment (in the future, before its beginning, or packed away)."""

    def __init__(self, moment: object, why: str) -> None:
        self.moment = moment
        super().__init__(f"the image cannot be opened as of {moment}: {why}")


class BadMoment(NoSuchMoment, ValueError):
    """A text is neither a transaction nor a time with its zone."""

    def __init__(self, moment: object) -> None:
        example = "2026-01-31T12:00:00+00:00"
        super().__init__(
            repr(moment),
            f"it is neither a transaction (16 hexadecimal digits) nor a time with its zone, like {example}",
        )


class NoAncestor(UvmError):
    """An object is to be compared with the one that it was cloned from, and it was not cloned."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{path} has no ancestor: it was not cloned; name the object to compare it with")


class ReadOnly(UvmError):
    """Something was changed in a view that only reads."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"{what} cannot be changed here: this view of the image is read only; use a transaction")


class SessionMisuse(UvmError):
    """A session was used out of order or from a second thread."""


class NotStorable(UvmError, TypeError):
    """A value that may not stand in the image.

    Attributes:
        path: where it stands, for example `lobby.alfred_prototype_obj.notes[3].lock`.
        reason: what is wrong with it.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}" if path else reason)

    def inside(self, place: str) -> Self:
        """The same refusal, told from one level further out."""
        return self._at(place + self.path)

    def _at(self, path: str) -> Self:
        return type(self)(path, self.reason)


class BelongsToVessel(NotStorable):
    """A runtime handle, a function, or an instance of a class that the image does not know.

    Attributes:
        kind: the full name of its type.
    """

    def __init__(self, path: str, kind: type | str) -> None:
        self.kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
        super().__init__(path, f"{self.kind!r} belongs to the vessel")

    def _at(self, path: str) -> Self:
        return type(self)(path, self.kind)


class BadSlotName(NotStorable):
    """A name that no slot can have."""


class ParentCycle(NotStorable):
    """A change of `parents` that would make an object its own ancestor."""


class ForeignClass(UvmError, POSError):  # type: ignore[misc]  # ZODB has no types
    """A record names a class that is not one of the image's: it is not loaded, and nothing of it runs.

    Attributes:
        module: the module that the record names.
        name: the class that it names.
    """

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name
        super().__init__(
            f"a record of the image names {module}.{name}, which is not one of the image's classes: it was not "
            "written by this system, and nothing of it was loaded"
        )


class MessageNotUnderstood(UvmError, AttributeError):
    """Neither an object nor any of its ancestors has the slot.

    Attributes:
        receiver: the object that was asked.
        selector: what it was asked for.
    """

    def __init__(self, receiver: Any, selector: str) -> None:
        super().__init__(selector, name=selector, obj=receiver)
        self.receiver = receiver
        self.selector = selector

    def __str__(self) -> str:
        return f"{self.receiver!r} does not understand {self.selector!r}"


class BrokenMethod(UvmError):
    """The source of a live method cannot be turned into a method.

    Attributes:
        selector: the method's name.
        reason: what is wrong.
        line: in which line of the source; 0 where it is the source as a whole.
    """

    def __init__(self, selector: str, reason: str, line: int = 0) -> None:
        self.selector = selector
        self.reason = reason
        self.line = line
        place = f"line {line}: " if line else ""
        super().__init__(f"live method {selector!r}: {place}{reason}")


class CovenantBroken(UvmError):
    """A guardian refuses.

    Attributes:
        covenant: which rule was broken.
        errors: what is wrong, one sentence each, with its path.
    """

    def __init__(self, covenant: str, errors: Sequence[str]) -> None:
        self.covenant = covenant
        self.errors = tuple(errors)
        super().__init__(f"{covenant}: " + "; ".join(self.errors))
