"""An image with a sandbox and with those whose methods run in it, for unit tests of the sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from BTrees.OOBTree import OOBTree

from batos.uvm import CovenantBroken, Image, UvmObject, install_method, open_image, slots
from batos.uvm import plain as plain_value
from batos.uvm.compiling import digest, normal
from batos.uvm.objects import METHODS, set_methods
from batos.uvm.sandbox import AuditRecord, Limits, Sandbox

DECLARED = (
    'CAPABILITIES = {"self": {"reads": ["n", "notes", "rows", "tags", "friend", "codex"], '
    '"sets": ["n", "notes", "rows", "tags", "total"], "sends": ["area", "work", "bomb", "fail", "echo"]}, '
    '"friend": {"reads": ["n", "friend"], "sets": ["n"], "sends": ["area"]}}\n'
)
AMPLE = Limits(wall_s=60.0, cpu_s=30.0, memory_bytes=32 * 1024 * 1024, host_calls=400)
"""Where time is not the point: a busy machine must not be taken for a slow method."""
CYCLE = "cycle-7"
GENESIS = {
    "area": "def area(self, k): return self.n * k",
    "echo": "def echo(self, value): return value",
    "fail": "def fail(self, what): raise ValueError(f'no such thing: {what}')",
    "bomb": "def bomb(self): return 'x' * 50_000_000",
    "work": "def work(self): return sum(range(2_000_000))",
    "conflict": "def conflict(self):\n    from ZODB.POSException import ConflictError\n    raise ConflictError",
    "find_stranger": "def find_stranger(self): return self.stranger",
    "report": "def report(self): return {'sum': 4}",
}


def guard(_receiver: UvmObject, _obj: UvmObject, _name: str, value: Any) -> None:
    if value == "forbidden":
        raise CovenantBroken("data covenant", ["it is forbidden"])


@dataclass
class World:
    """Two personas and a stranger in an image with a sandbox."""

    image: Image
    sandbox: Sandbox
    audit: list[AuditRecord] = field(default_factory=list)

    def install(self, source: str, name: str = "m", author: str = CYCLE) -> None:
        with self.image.transaction() as root:
            install_method(root["lobby"].robin_prototype_obj, name, source, author=author)

    def smuggle(self, source: str) -> None:
        """Put a method in the image that no guardian has seen."""
        text = normal(source)
        with self.image.transaction() as root:
            robin = root["lobby"].robin_prototype_obj
            set_methods(robin, {**robin.__dict__.get(METHODS, {}), "m": (text, digest(text), CYCLE, 1.0)})

    def remove(self) -> None:
        with self.image.transaction() as root:
            root["lobby"].robin_prototype_obj.__dict__[METHODS].pop("m", None)
            set_methods(root["lobby"].robin_prototype_obj, dict(root["lobby"].robin_prototype_obj.__dict__[METHODS]))

    def state(self, root: Any) -> Any:
        """All that stands in the personas' slots, their methods and their histories."""
        lobby = root["lobby"]
        people = [lobby.traits_obj, lobby.robin_prototype_obj, lobby.babs_prototype_obj, lobby.stranger]
        return [
            (shown(slots(one)), [shown(parent) for parent in one.parents], one.__dict__.get(METHODS)) for one in people
        ]


def shown(value: Any) -> Any:
    """Plain data, with objects by their names."""
    if isinstance(value, UvmObject):
        return f"<{value.name}>"
    if isinstance(value, OOBTree):
        return "a tree"
    value = plain_value(value)
    if isinstance(value, dict):
        return {key: shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(shown(item) for item in value)
    return value


def a_world(folder: Path, **settings: Any) -> Iterator[World]:
    audit: list[AuditRecord] = []
    with open_image(f"file://{folder}/live_image.fs") as image:
        settings = {"limits": AMPLE, "guard": guard, **settings}
        with Sandbox(audit=audit.append, **settings) as sandbox:
            image.sandbox = sandbox
            with image.transaction() as root:
                populate(root)
            yield World(image, sandbox, audit)


def populate(root: Any) -> None:
    lobby = root["lobby"]
    traits = lobby.traits_obj = UvmObject(name="traits", kind="family")
    for name, source in GENESIS.items():
        install_method(traits, name, source, author="genesis")
    install_method(traits, "triple", "def triple(self, x):\n    return 3 * x\n", author="cycle-2")
    lobby.stranger = UvmObject([traits], name="stranger", n=5)
    deep: list[Any] = []
    for _ in range(60):
        deep = [deep]
    lobby.babs_prototype_obj = babs = UvmObject(
        [traits], name="babs", n=8, codex={"creed": "neat"}, dna={"adapters": {}}
    )
    lobby.robin_prototype_obj = robin = UvmObject(
        [traits],
        name="robin",
        n=3,
        notes=[1, {"a": 2}],
        rows=[{"x": 1}, {"x": 2}],
        tags={"t"},
        codex={"creed": "kind"},
        dna={"adapters": {}},
        secret=[1],
        huge="x" * 2_000_000,
        deep=deep,
        tree=OOBTree({"a": 1}),
        friend=babs,
        stranger=lobby.stranger,
        friends=[babs, lobby.stranger],
    )
    babs.friend = robin
