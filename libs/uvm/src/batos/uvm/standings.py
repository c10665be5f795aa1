"""How far a value of a source is the source's own: the lattice of the abstract interpretation in `lost_writes`."""

from __future__ import annotations

RECEIVER = -2
OBJECT = -1
"""What stands in a slot of the receiver for which capabilities are declared: an object."""
HOST = 0
"""A copy of what stands in the image. 1 to 3: the source's own, holding such copies so many levels down."""
ANSWER = 8
"""What a message brought: a copy that belongs to the source, or an object."""
OWN = 9
INSTANCE = 10
"""An instance of one of the source's classes."""
DEEPEST_HOST = 3


def wrapped(standing: int) -> int:
    """The standing of a new container with something of that standing in it."""
    if standing <= HOST:
        return 1
    if standing <= DEEPEST_HOST:
        return standing + 1 if standing < DEEPEST_HOST else OWN
    return min(standing, OWN)


def inner(standing: int) -> int:
    """The standing of what stands in a container."""
    if standing <= HOST:
        return HOST
    return standing - 1 if standing <= DEEPEST_HOST else min(standing, OWN)


def shallow(standing: int) -> int:
    """The standing of a copy of a container, or of what an operator makes of its operands."""
    return max(standing, 1)


def answer_of_container(name: str, holder: int) -> int:
    """The standing of what a container's own method returns."""
    if holder == ANSWER:
        return ANSWER
    if name in {"get", "pop", "setdefault", "popitem", "popleft"}:
        return inner(holder)
    if name in {"keys", "values"}:
        return wrapped(inner(holder))
    if name == "items":
        return wrapped(wrapped(inner(holder)))
    if name == "copy":
        return shallow(holder)
    return ANSWER if holder <= HOST else OWN
