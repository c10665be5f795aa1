"""What stands for objects in the sandbox."""

from __future__ import annotations

from functools import lru_cache
from typing import Any
from uuid import UUID

import pydantic_monty as monty

_KINDS_FROM = 1 << 64
"""Ids from here on are those of handles' types; the handles' own count from 1."""


class Handle:
    """What stands for an object in the sandbox. It has nothing: the host answers for it."""

    __slots__ = ("target",)

    def __init__(self, target: Any) -> None:
        self.target = target


class Handles:
    """The handles of one call: one for each object that crossed, which it keeps in memory."""

    def __init__(self) -> None:
        self._handles: dict[int, monty.ClassInstance] = {}
        self._targets: dict[UUID, Any] = {}

    def of(self, target: Any) -> monty.ClassInstance:
        """The handle of an object."""
        known = self._handles.get(id(target))
        if known is None:
            number = len(self._handles) + 1
            kind, name = _kind(type(target).__name__, number), UUID(int=number)
            known = self._handles[id(target)] = monty.ClassInstance(kind.value(target), id=name, class_type=kind)
            self._targets[name] = target
        return known

    def target(self, name: UUID | None) -> Any:
        """The object whose handle has this id; None where there is none."""
        return None if name is None else self._targets.get(name)

    def knows(self, target: object) -> bool:
        """Whether an object has a handle."""
        return id(target) in self._handles


@lru_cache(maxsize=4096)
def _kind(name: str, number: int) -> monty.ClassType:
    """A type for one handle alone: the sandbox shows an object by the name of its type, so that tells them apart."""
    return monty.ClassType(type(f"{name}_{number}", (Handle,), {"__slots__": ()}), id=UUID(int=_KINDS_FROM + number))
