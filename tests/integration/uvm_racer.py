"""One process of the race: threads that change objects and compare every fast read with two naive walks.

Run as `python uvm_racer.py URI THREADS ROUNDS SEED [SABOTAGE]`; prints one JSON object. A sabotage breaks one of the
rules that keep shapes true, on purpose: the comparison must notice.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from persistent import Persistent
from ZODB.POSException import ConflictError

from batos.uvm import MessageNotUnderstood, ParentCycle, Session, UvmObject, find, install_method, open_image
from batos.uvm.objects import METHODS, PRIVATE
from batos.uvm.shapes import ShapeTable

NAMES = tuple("abcdefgh")
OBJECTS = 40
STORAGE_READS = 25
RACERS = 3
"""Of one race, over all processes: together they commit more often than one of them has rounds."""


def _forget_nothing(obj: Any) -> None:
    Persistent._p_deactivate(obj)


def _keep_the_shape(obj: Any) -> None:
    Persistent._p_deactivate(obj)
    if obj._p_changed is None and obj._p_jar is not None:
        obj._p_jar.shapes.object_changed(obj)


def _ignore(_table: ShapeTable, _holder: UvmObject) -> None:
    """The rule that is broken."""


SABOTAGES: dict[str, tuple[type, str, Callable[..., None]]] = {
    "shapes outlive invalidations": (UvmObject, "_p_deactivate", _forget_nothing),
    "ghosts keep their shape": (UvmObject, "_p_deactivate", _keep_the_shape),
    "heirs miss local writes": (ShapeTable, "slot_changed", _ignore),
}


def populate(root: Any, rnd: random.Random) -> None:
    """Objects with up to three parents each, drawn from those before."""
    made: list[UvmObject] = []
    for place in range(OBJECTS):
        parents = rnd.sample(made, min(len(made), rnd.choice((0, 1, 1, 2, 3)))) if place else []
        made.append(UvmObject(parents, **{name: rnd.getrandbits(31) for name in rnd.sample(NAMES, 2)}))
    root["lobby"].all = made


class Racer:
    """One thread."""

    def __init__(self, session: Session, seed: int) -> None:
        self.session = session
        self.rnd = random.Random(seed)
        self.count: Counter[str] = Counter()
        self.examples: list[str] = []

    def run(self, rounds: int) -> None:
        """Run that many rounds, and on until its share of them was committed: chance decides how many of them are."""
        done = 0
        while done < rounds or self.count["commits"] <= rounds // RACERS:
            done += 1
            try:
                self.round()
            except ConflictError:
                self.count["conflicts"] += 1
            except ParentCycle:
                self.count["cycles refused"] += 1
            self.session.abort()

    def round(self) -> None:
        objects = list(self.session.begin()["lobby"].all)
        self.compare_with_storage(objects)
        if self.rnd.random() < 0.35:
            return
        for _ in range(self.rnd.randint(1, 4)):
            self.change(objects)
            self.compare_with_memory(objects, 6)
        if self.rnd.random() < 0.4:
            point = self.session.savepoint()
            for _ in range(self.rnd.randint(1, 4)):
                self.change(objects)
                self.compare_with_memory(objects, 6)
            if self.rnd.random() < 0.6:
                point.rollback()
                self.compare_with_memory(objects, 20)
        if self.rnd.random() < 0.7:
            self.session.commit()
            self.count["commits"] += 1

    def change(self, objects: list[Any]) -> None:
        obj, name = self.rnd.choice(objects), self.rnd.choice(NAMES)
        what = self.rnd.random()
        if what < 0.35:
            setattr(obj, name, self.rnd.getrandbits(31))
        elif what < 0.5:
            install_method(obj, name, f"def {name}(self): return {self.rnd.getrandbits(31)}\n", author="architect")
        elif what < 0.6:
            if name in obj.__dict__:
                delattr(obj, name)
        elif what < 0.75:
            obj.parents = self.rnd.sample(objects, self.rnd.choice((0, 1, 1, 2, 3)))
        elif what < 0.83:
            obj._p_jar.cacheMinimize()
        elif what < 0.95:
            obj._p_deactivate()
        else:
            self.new_object(objects)

    def new_object(self, objects: list[Any]) -> None:
        new = UvmObject(self.rnd.sample(objects, 2), a=self.rnd.getrandbits(31))
        self.compare_with_memory([new], 4)
        self.rnd.choice(objects).kid = new
        self.compare_with_memory([new], 4)
        new.parents[0].b = self.rnd.getrandbits(31)
        self.compare_with_memory([new], 4)

    def compare_with_memory(self, objects: list[Any], times: int) -> None:
        """With the definition of delegation, over the states in memory."""
        for _ in range(times):
            obj, name = self.rnd.choice(objects), self.rnd.choice(NAMES)
            if self.rnd.random() < 0.5:
                fast, slow = fast_read(obj, name), slow_read(obj, name)
            else:
                slow, fast = slow_read(obj, name), fast_read(obj, name)
            self.judge("memory", name, fast, slow)

    def compare_with_storage(self, objects: list[Any]) -> None:
        """With a walk over the raw records of the same snapshot."""
        records: dict[bytes, dict[str, Any]] = {}
        for _ in range(STORAGE_READS):
            obj, name = self.rnd.choice(objects), self.rnd.choice(NAMES)
            self.judge("storage", name, fast_read(obj, name), record_read(obj, name, records))

    def judge(self, kind: str, name: str, fast: Any, slow: Any) -> None:
        self.count[kind] += 1
        if fast != slow:
            self.count["mismatches"] += 1
            self.examples.append(f"{kind} {name}: {fast} is not {slow}")


def fast_read(obj: Any, name: str) -> Any:
    """As everybody reads."""
    try:
        value = getattr(obj, name)
    except MessageNotUnderstood:
        return None
    return ("method", value()) if callable(value) else value


def slow_read(obj: Any, name: str) -> Any:
    """By the definition, without shapes."""
    try:
        _, value, method = find(obj, name)
    except MessageNotUnderstood:
        return None
    return value if method is None else ("method", _number(method[0]))


def record_read(obj: Any, name: str, records: dict[bytes, dict[str, Any]]) -> Any:
    """From what is stored, without objects."""
    jar = obj._p_jar
    stack, seen = [obj._p_oid], set()
    while stack:
        oid = stack.pop()
        if oid in seen:
            continue
        seen.add(oid)
        if oid not in records:
            records[oid] = jar._reader.getState(jar._storage.load(oid)[0])
        state = records[oid]
        if name in state and name not in PRIVATE:
            return state[name]
        method = state.get(METHODS, {}).get(name)
        if method is not None:
            return ("method", _number(method[0]))
        stack.extend(parent._p_oid for parent in reversed(state["parents"]))
    return None


def _number(source: str) -> int:
    return int(source.rsplit(" ", 1)[1])


def main(uri: str, threads: int, rounds: int, seed: int, sabotage: str = "") -> None:
    """Run the race and print what was counted."""
    if sabotage:
        owner, name, broken = SABOTAGES[sabotage]
        setattr(owner, name, broken)
    total: Counter[str] = Counter()
    examples: list[str] = []
    errors: list[str] = []
    with open_image(f"{uri}&connection_cache_size=100") as image:

        def work(number: int) -> None:
            try:
                with image.session() as session:
                    racer = Racer(session, seed * 100 + number)
                    racer.run(rounds)
                    total.update(racer.count)
                    examples.extend(itertools.islice(racer.examples, 3))
            except Exception as wrong:  # noqa: BLE001 - reported by the main thread
                errors.append(repr(wrong))

        workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    sys.stdout.write(json.dumps({"count": total, "examples": examples, "errors": errors}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:6])
