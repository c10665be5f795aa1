"""The workers beneath the sandbox: killed, shared by threads, all taken, closed."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
from uvm_sandbox_world import DECLARED, World, a_world

from batos.uvm import UvmObject, install_method
from batos.uvm.sandbox import Limits
from batos.uvm.sandbox_errors import LimitReached, SandboxBusy, SandboxMisuse, WorkerLost

pytestmark = pytest.mark.usefixtures("first_pool")


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if child.name() == "monty"]


def test_a_worker_that_is_killed_in_mid_call_is_named_and_replaced(sandboxed: World) -> None:
    """The next call works, and nothing of the lost one is left."""
    sandboxed.install("def m(self):\n    return 1\n")
    with sandboxed.image.session() as session:
        robin = session.begin()["lobby"].robin_prototype_obj
        assert robin.m() == 1
    with sandboxed.image.transaction() as root:
        source = (
            "def work(self):\n    import os, psutil, signal\n"
            "    [os.kill(c.pid, signal.SIGKILL) for c in psutil.Process().children() if 'monty' in c.name()]\n"
        )
        install_method(root["lobby"].traits_obj, "work", source, author="genesis")
    sandboxed.install(DECLARED + "def m(self):\n    self.set('n', 99)\n    self.work()\n    return self.n\n")
    with sandboxed.image.session() as session:
        robin = session.begin()["lobby"].robin_prototype_obj
        with pytest.raises(WorkerLost) as caught:
            robin.m()
        assert caught.value.line == 4
        assert robin.n == 3
        assert robin.triple(2) == 6
    assert [record.rule for record in sandboxed.audit] == ["worker"]


def test_a_worker_that_is_killed_while_it_computes_is_named(tmp_path: Path) -> None:
    """As an operator or the machine's own memory killer may do it."""
    computing = threading.Event()

    def tell(_receiver: UvmObject, _obj: UvmObject, _name: str, _value: Any) -> None:
        computing.set()

    def kill() -> None:
        assert computing.wait(30)
        for worker in workers():
            worker.kill()

    for world in a_world(tmp_path, limits=Limits(wall_s=30, cpu_s=30), guard=tell):
        world.install(DECLARED + "def m(self):\n    self.set('n', 99)\n    while True:\n        pass\n")
        killer = threading.Thread(target=kill)
        with world.image.session() as session:
            robin = session.begin()["lobby"].robin_prototype_obj
            killer.start()
            with pytest.raises(WorkerLost):
                robin.m()
            killer.join()
            assert robin.n == 3
            assert robin.triple(2) == 6


def test_a_worker_that_is_killed_between_calls_is_not_missed(sandboxed: World) -> None:
    """Nothing was begun in it: the next call has another one."""
    with sandboxed.image.session() as session:
        robin = session.begin()["lobby"].robin_prototype_obj
        assert robin.triple(1) == 3
        for worker in workers():
            worker.kill()
            worker.wait(30)
        assert robin.triple(2) == 6


def test_many_threads_share_one_sandbox(sandboxed: World) -> None:
    """Each in its own transaction; nobody sees another's."""
    sandboxed.install(DECLARED + "def m(self, k):\n    self.set('n', k)\n    return self.area(10)\n")
    results: dict[int, Any] = {}

    def cycle(number: int) -> None:
        with sandboxed.image.session() as session:
            robin = session.begin()["lobby"].robin_prototype_obj
            results[number] = [robin.m(number) for _ in range(10)]

    threads = [threading.Thread(target=cycle, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [10 * number] * 10 for number in range(8)}


def test_who_finds_no_worker_is_told_so(tmp_path: Path) -> None:
    """After the time that the call itself might take; the error may be tried again."""
    inside, done = threading.Event(), threading.Event()

    def wait(_receiver: UvmObject, _obj: UvmObject, _name: str, _value: Any) -> None:
        inside.set()
        done.wait(30)

    for world in a_world(tmp_path, guard=wait, workers=1, limits=Limits(wall_s=0.2)):
        world.install(DECLARED + "def m(self):\n    self.set('n', 1)\n")

        def cycle(world: World = world) -> None:
            with world.image.session() as session, pytest.raises(LimitReached):
                session.begin()["lobby"].robin_prototype_obj.m()

        thread = threading.Thread(target=cycle)
        thread.start()
        inside.wait(30)
        with world.image.session() as session, pytest.raises(SandboxBusy):
            session.begin()["lobby"].robin_prototype_obj.m()
        done.set()
        thread.join()


async def test_an_event_loop_is_never_blocked(sandboxed: World) -> None:
    """A call from its thread is refused; one from a thread beside it is not."""
    sandboxed.install("def m(self):\n    return 1\n")

    def called() -> Any:
        with sandboxed.image.session() as session:
            return session.begin()["lobby"].robin_prototype_obj.m()

    with pytest.raises(SandboxMisuse, match="event-loop"):
        called()
    assert await asyncio.to_thread(called) == 1


def test_a_closed_sandbox_says_so(sandboxed: World) -> None:
    """And may be closed twice."""
    sandboxed.install("def m(self):\n    return 1\n")
    with sandboxed.image.session() as session:
        robin = session.begin()["lobby"].robin_prototype_obj
        assert robin.m() == 1
        sandboxed.sandbox.close()
        sandboxed.sandbox.close()
        with pytest.raises(SandboxMisuse, match="closed"):
            robin.m()


def test_closing_waits_for_the_call_that_runs(tmp_path: Path) -> None:
    """It ends as it would have; the next one is refused."""
    inside, closing, done = threading.Event(), threading.Event(), threading.Event()
    results: list[Any] = []

    def wait(_receiver: UvmObject, _obj: UvmObject, _name: str, _value: Any) -> None:
        inside.set()
        assert done.wait(30)

    for world in a_world(tmp_path, guard=wait, limits=Limits(wall_s=60)):
        world.install(DECLARED + "def m(self):\n    self.set('n', 1)\n    return self.n\n")

        def cycle(world: World = world) -> None:
            with world.image.session() as session:
                results.append(session.begin()["lobby"].robin_prototype_obj.m())

        def close(world: World = world) -> None:
            closing.set()
            world.sandbox.close()
            results.append("closed")

        threads = [threading.Thread(target=cycle), threading.Thread(target=close)]
        threads[0].start()
        assert inside.wait(30)
        threads[1].start()
        assert closing.wait(30)
        done.set()
        for thread in threads:
            thread.join()
    assert results == [1, "closed"]
