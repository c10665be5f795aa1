"""What is said to the child process that holds llama.cpp: JSON lines, one request at a time, one reply each."""

from __future__ import annotations

import msgspec


class Build(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Start a server with these adapters, all of them off until a question names one."""

    model: str
    adapters: tuple[str, ...]
    """Paths of GGUF adapters; their order is their ids."""
    slots: int
    context_tokens: int
    """Of one slot."""
    threads: int
    key: str
    """That callers of the server must show: its address is open to everybody on this machine."""


class Drop(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """End a server that has no request in flight (with one it would block for a minute), and give its memory back."""

    server: int


class Convert(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Write peft's adapter as GGUF, for this model."""

    model: str
    folder: str
    target: str


class Built(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A server listens."""

    server: int
    url: str


class Done(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """It is done."""


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """It could not be done; the child goes on."""

    code: str
    message: str


class Started(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The first line of a child: it has llama.cpp and takes requests."""

    version: str


Request = Build | Drop | Convert
Reply = Built | Done | Failed | Started
