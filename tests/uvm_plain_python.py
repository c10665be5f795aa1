"""What a cycle's method does in Python itself, with the objects and not with copies: the sandbox is held to that."""

from __future__ import annotations

import copy
from typing import Any

from batos.uvm import UvmObject

MORE_SLOTS: dict[str, Any] = {
    "d": {"k": {"n": 1}, "l": [1, 2]},
    "groups": {"a": [1], "b": [2]},
    "pair": [[1], [2]],
}
"""Slots beside those of the world of `uvm_sandbox_world`."""
SLOTS = ("n", "notes", "rows", "tags", "total", *MORE_SLOTS)
DECLARED_ALL = (
    'CAPABILITIES = {"self": {"reads": ["n", "notes", "rows", "tags", "total", "friend", "d", "groups", "pair"], '
    '"sets": ["n", "notes", "rows", "tags", "total", "d", "groups", "pair"], "sends": ["area", "echo", "fail"]}, '
    '"friend": {"reads": ["n", "friend"], "sets": ["n"], "sends": ["area"]}}\n'
)


class Live:
    """An object as a method's author thinks of it."""

    def __init__(self, **slots: Any) -> None:
        self.__dict__.update(slots)

    def set(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def send(self, name: str, *args: Any) -> Any:
        return getattr(self, name)(*args)

    def area(self, k: int) -> int:
        n: int = self.n
        return n * k

    def echo(self, value: Any) -> Any:
        return value

    def fail(self, what: Any) -> None:
        raise ValueError(f"no such thing: {what}")

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


def fill(robin: UvmObject) -> None:
    """Give an object of the world the other slots too."""
    for name, value in MORE_SLOTS.items():
        setattr(robin, name, copy.deepcopy(value))


def in_python(source: str, args: tuple[Any, ...]) -> tuple[Any, dict[str, Any]]:
    """What `m` answers, and what the slots hold then."""
    babs = Live(name="babs", n=8)
    robin = Live(
        name="robin", n=3, notes=[1, {"a": 2}], rows=[{"x": 1}, {"x": 2}], tags={"t"}, **copy.deepcopy(MORE_SLOTS)
    )
    robin.friend, babs.friend = babs, robin
    names: dict[str, Any] = {}
    exec(compile(source, "<m>", "exec"), names)  # noqa: S102 - a source of the tests
    answer = names["m"](robin, *copy.deepcopy(args))
    return _told(answer), {name: _told(getattr(robin, name)) for name in SLOTS if name in robin.__dict__}


def _told(value: Any) -> Any:
    """Plain data, with objects by their names."""
    if isinstance(value, Live):
        return f"<{value.name}>"
    if isinstance(value, dict):
        return {key: _told(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_told(item) for item in value)
    return value
