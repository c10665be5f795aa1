"""The life of a process: settings, health pages, peer, start, readiness, drain, stop, exit code."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable
from functools import partial
from typing import TypeVar

from batos.protocol import Drain, Draining, Peer, Ping, Pong, ProtocolError, RequestContext
from batos.vessel.errors import SettingsError, VesselError
from batos.vessel.health import HealthPages, HealthServer
from batos.vessel.logs import configure_logging
from batos.vessel.settings import VesselSettings, load_settings
from batos.vessel.vessel import Vessel

S = TypeVar("S", bound=VesselSettings)

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_SETTINGS = 2
REPLY_GRACE_S = 0.1
"""How long the answer to a `Drain` may take to leave before the drain begins."""
PRIVATE_UMASK = 0o077
"""What a vessel writes is its user's alone, the folders above it included."""
TURN_S = 0.5
"""How often the event loop shows that it turns."""

_log = logging.getLogger("batos.vessel")


def run(vessel_class: type[Vessel[S]], settings: S | type[S]) -> int:
    """Live: read settings, start, serve until SIGTERM, SIGINT or `Drain`, drain, stop.

    A second signal cuts the drain short, a third ends the process at once.

    Args:
        vessel_class: what to run.
        settings: its settings, or the class to read them with.

    Returns:
        The exit code: 0 ended in order, 1 could not start or failed, 2 bad settings.
    """
    os.umask(PRIVATE_UMASK)
    try:
        read = load_settings(settings) if isinstance(settings, type) else settings
        if not read.name:
            read = read.model_copy(update={"name": vessel_class.kind})
        read.check_home()
        read = read.with_fleet()
    except VesselError as error:
        sys.stderr.write(f"batos {vessel_class.kind}: {error}\n")
        return EXIT_SETTINGS if isinstance(error, SettingsError) else EXIT_FAILED
    configure_logging(read.name, read.log_level, read.log_format)
    faulthandler.enable()
    _log.info("settings: %s", read.shown())
    deadline = _ExitDeadline(read)
    code = asyncio.run(_live(vessel_class, read, deadline))
    deadline.cancel_unless_threads_linger()
    return code


async def _live(vessel_class: type[Vessel[S]], settings: S, deadline: _ExitDeadline) -> int:
    ends = _Ends(settings)
    try:
        vessel = vessel_class(settings)
        ends.listen(vessel)
        return await live(vessel, ends.cut)
    except Exception as error:  # noqa: BLE001 - whatever stops a start becomes one clear line
        return say_failure(settings.name, error, started=False)
    finally:
        deadline.begin()


async def live(vessel: Vessel[S], cut: asyncio.Event) -> int:
    """Run a vessel from its start to its end, without touching signals or logging.

    Args:
        vessel: newly made.
        cut: once set, a drain is cut short.

    Returns:
        The exit code.
    """
    settings = vessel.settings
    pages = HealthServer(HealthPages(vessel.registry, vessel.health), settings.metrics_host, settings.metrics_port)
    vessel.metrics_url = pages.metrics_url
    pages.start()
    turns = asyncio.create_task(_turn(vessel), name="turns")
    peer: Peer | None = None
    try:
        if vessel.uses_bus:
            peer = Peer(
                settings.bus_addresses(),
                settings.key_pair(),
                vessel.card,
                heartbeat_s=settings.heartbeat_s,
            )
            vessel.attach(peer, partial(asyncio.get_running_loop().call_soon_threadsafe, peer.announce))
            _serve_control(vessel, peer)
            await peer.start()
        return await _start_and_end(vessel, peer, cut)
    finally:
        turns.cancel()
        await asyncio.gather(turns, return_exceptions=True)
        if peer is not None:
            await peer.close()
        await asyncio.to_thread(pages.close)


async def _start_and_end(vessel: Vessel[S], peer: Peer | None, cut: asyncio.Event) -> int:
    """Start, wait for the end, drain, stop."""
    code = EXIT_DONE
    started = False
    try:
        started = await _unless(vessel.start(), vessel.ending)
        if started:
            _log.info("started: incarnation %s, pid %d, %s", vessel.incarnation, os.getpid(), vessel.metrics_url)
            await vessel.ending.wait()
            vessel.set_draining()
            if peer is not None:
                await peer.goodbye()
            await _drain(vessel, cut)
    except Exception as error:  # noqa: BLE001 - whatever stops a start becomes one clear line
        vessel.set_ready(False, f"failed: {error}")
        code = say_failure(vessel.name, error, started=started)
    if vessel.failure is not None:
        code = say_failure(vessel.name, vessel.failure, started=started)
    try:
        await asyncio.wait_for(vessel.stop(), vessel.settings.stop_timeout_s)
    except TimeoutError:
        _log.error("stopping took longer than %.1f s (BATOS_STOP_TIMEOUT_S)", vessel.settings.stop_timeout_s)
        code = code or EXIT_FAILED
    except Exception as error:  # noqa: BLE001 - the process ends in any case, with a clear line
        code = code or say_failure(vessel.name, error, started=True)
    return code


async def _drain(vessel: Vessel[S], cut: asyncio.Event) -> None:
    """Let the vessel finish what runs, within its time and unless it is cut short."""
    timeout_s = vessel.drain_timeout_s
    _log.info("draining, for at most %.1f s", timeout_s)
    try:
        async with asyncio.timeout(timeout_s):
            finished = await _unless(vessel.drain(timeout_s), cut)
    except TimeoutError:
        _log.warning("the drain took longer than %.1f s: what still runs is released", timeout_s)
        return
    _log.info("drained" if finished else "drain cut short by a second signal")


async def _unless(work: Awaitable[None], event: asyncio.Event) -> bool:
    """Do some work unless an event comes first, which cancels it; return whether it was finished."""
    task = asyncio.ensure_future(work)
    waiter = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
            return True
        return False
    finally:
        task.cancel()
        waiter.cancel()
        await asyncio.gather(task, waiter, return_exceptions=True)


def _serve_control(vessel: Vessel[S], peer: Peer) -> None:
    async def ping(message: Ping, context: RequestContext) -> Pong:
        del message, context
        return Pong(card=vessel.card())

    async def drain(message: Drain, context: RequestContext) -> Draining:
        _log.info("drain asked for by %s", context.sender)
        asyncio.get_running_loop().call_later(REPLY_GRACE_S, vessel.begin_drain, message.timeout_s)
        return Draining(running=peer.running)

    peer.serve_control({Ping: ping, Drain: drain})


async def _turn(vessel: Vessel[S]) -> None:
    """Show that the loop turns, and notice that the parent is gone."""
    parent = vessel.settings.parent_pid
    while True:
        vessel.turned()
        if parent and os.getppid() != parent and not vessel.ending.is_set():
            _log.error("process %d, which kept this vessel, is gone: ending", parent)
            vessel.begin_drain(0.0)
        await asyncio.sleep(TURN_S)


def say_failure(name: str, error: BaseException, *, started: bool) -> int:
    """Say in one line why a vessel cannot go on; a fault that no sentence explains shows where it arose.

    Returns:
        The exit code that goes with it: 2 where a setting is wrong, else 1.
    """
    explained = isinstance(error, (VesselError, ProtocolError, OSError)) or type(error).__module__.startswith("batos.")
    verb = "failed" if started else "cannot start"
    words = str(error) if explained and str(error) else f"{type(error).__name__}: {error}"
    _log.error("%s %s: %s", name, verb, words, exc_info=None if explained else error)
    return EXIT_SETTINGS if isinstance(error, SettingsError) else EXIT_FAILED


class _Ends:
    """What SIGTERM and SIGINT do."""

    def __init__(self, settings: VesselSettings) -> None:
        self.cut = asyncio.Event()
        self._settings = settings
        self._signals = 0

    def listen(self, vessel: Vessel[S]) -> None:
        """Let SIGTERM and SIGINT end the vessel."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, vessel, signal.Signals(number).name)

    def _signalled(self, vessel: Vessel[S], name: str) -> None:
        self._signals += 1
        if self._signals == 1:
            _log.info("%s: ending", name)
            vessel.begin_drain(self._settings.drain_timeout_s)
        elif not self.cut.is_set():
            _log.warning("%s again: cutting the drain short", name)
            vessel.begin_drain(0.0)
            self.cut.set()
        else:
            os._exit(EXIT_FAILED)


class _ExitDeadline:
    """Ends the process some time after its work has ended, where threads that will not end would keep it."""

    def __init__(self, settings: VesselSettings) -> None:
        self._settings = settings
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="exit-deadline", daemon=True)

    def begin(self) -> None:
        """Count from now on."""
        self._thread.start()

    def cancel_unless_threads_linger(self) -> None:
        """End the count when nothing can keep the process any more."""
        if not self._lingering():
            self._cancelled.set()
            self._thread.join()

    def _lingering(self) -> list[str]:
        main = threading.main_thread()
        return [thread.name for thread in threading.enumerate() if not thread.daemon and thread is not main]

    def _watch(self) -> None:
        if not self._cancelled.wait(self._settings.stop_timeout_s):
            names = ", ".join(self._lingering()) or "none"
            sys.stderr.write(f"{self._settings.name}: left behind after the end: threads that will not end: {names}\n")
            sys.stderr.flush()
            os._exit(EXIT_FAILED)
