"""Who runs what: missions that wait get a place, missions of lost kernels are adopted, what has ended is tidied up."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ZODB.POSException import ConflictError

from batos.kernel import missions
from batos.kernel.adoption import Absence, Outlook, look
from batos.kernel.chronicle import ORCHESTRATOR
from batos.kernel.genesis import AUTHOR as GENESIS
from batos.kernel.metacognition import Metacognition
from batos.kernel.metrics import KernelMetrics
from batos.kernel.missions import OpenMission, Owner
from batos.kernel.registration import Registration
from batos.kernel.running import Places, Runner
from batos.kernel.segments import SegmentFolder, lines
from batos.kernel.ticket import EventSink, Ticket
from batos.protocol import EventType, MissionEnded, MissionStatus, Peer, ProtocolError, Roster, RosterGet
from batos.uvm import Image, UvmError

_log = logging.getLogger("batos.kernel")


class Scheduler:
    """Looks at the open missions now and then, and whenever something has changed here."""

    def __init__(
        self,
        *,
        image: Image,
        owner: Owner,
        places: Places,
        runner: Runner,
        registration: Registration,
        peer: Peer,
        log: Metacognition,
        logs: Path,
        events: EventSink,
        tidy: Callable[[str], None],
        on_end: Callable[[MissionStatus], None],
        metrics: KernelMetrics,
        poll_s: float,
        roster_s: float,
        adopt_after_s: float,
        most_adoptions: int,
        genesis_after_s: float,
    ) -> None:
        """Begin without having looked.

        Args:
            image: where missions are kept.
            owner: this kernel.
            places: where missions may run.
            runner: runs them.
            registration: told which kernels are gone.
            peer: asked who is on the bus.
            log: the metacognition log of this kernel.
            logs: the folder of all kernels' logs on this machine.
            events: where the end of a mission is published.
            tidy: takes an ended mission out of the open ones.
            on_end: told of missions that are given up.
            metrics: counts.
            poll_s: seconds between two looks at missions.
            roster_s: seconds between two looks at the roster.
            adopt_after_s: seconds that an owner has to be missing.
            most_adoptions: how often a mission is started again.
            genesis_after_s: seconds without any other mission before genesis begins.
        """
        self._image = image
        self._owner = owner
        self._places = places
        self._runner = runner
        self._registration = registration
        self._peer = peer
        self._log = log
        self._logs = logs
        self._events = events
        self._tidy = tidy
        self._on_end = on_end
        self._metrics = metrics
        self._poll_s = poll_s
        self._roster_s = roster_s
        self._most_adoptions = most_adoptions
        self._genesis_after_s = genesis_after_s
        self._busy_at = time.monotonic()
        self._absence = Absence(adopt_after_s)
        self._strays: frozenset[tuple[str, int]] = frozenset()
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def wake(self) -> None:
        """Look again soon: a place is free, or a mission found none. Thread-safe."""
        self._loop.call_soon_threadsafe(self._changed.set)

    async def run(self) -> None:
        """Look until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_roster(), name="roster")
            tasks.create_task(self._watch_kernels(), name="kernels")
            tasks.create_task(self._watch_missions(), name="missions")

    async def _watch_roster(self) -> None:
        while True:
            asked_at = time.monotonic()
            try:
                roster = await self._peer.request("bus", RosterGet(), Roster, timeout_s=max(1.0, self._roster_s))
                self._absence.seen(roster, asked_at)
            except ProtocolError as error:
                _log.debug("no roster: %s", error)
            await asyncio.sleep(self._roster_s)

    async def _watch_kernels(self) -> None:
        """Keep the image's list of kernels true. Apart from the rosters: they go on while the image is away."""
        while True:
            try:
                await asyncio.to_thread(self._registration.keep, self._absence.gone)
            except (UvmError, ConflictError) as error:
                _log.warning("the list of kernels was not looked at, again in %g s: %s", self._roster_s, error)
            await asyncio.sleep(self._roster_s)

    async def _watch_missions(self) -> None:
        while True:
            self._changed.clear()
            try:
                await self._look()
            except (UvmError, ConflictError) as error:
                _log.warning("the open missions were not looked at, again in %g s: %s", self._poll_s, error)
            try:
                async with asyncio.timeout(self._poll_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _look(self) -> None:
        """Read the open missions once and do what there is to do."""
        outlook = await asyncio.to_thread(self._outlook)
        self._strays = outlook.strays
        self._metrics.waiting.set(len(outlook.waiting))
        for mission in outlook.hopeless:
            await asyncio.to_thread(self._give_up, mission)
        for mission in outlook.left:
            await asyncio.to_thread(self._take_leave, mission)
        due = sorted(
            outlook.adoptable + outlook.waiting, key=lambda mission: (mission.submitted_at, mission.mission_id)
        )
        asked = [mission for mission in due if mission.author != GENESIS]
        chosen = asked or (due if time.monotonic() - self._busy_at >= self._genesis_after_s else [])
        started = await asyncio.to_thread(self._start, chosen) if chosen else 0
        self._places.set_queued(started < len(asked))
        if started < len(asked) and not self._places.free:
            await self._make_room()

    def _start(self, due: list[OpenMission]) -> int:
        """Claim or adopt missions in one transaction, and run them; return for how many there was a place."""
        reserved = 0
        while reserved < len(due) and self._places.reserve():
            reserved += 1
        if not reserved:
            return 0
        tickets: list[Ticket] = []
        try:
            tickets = self._claimed(due[:reserved])
        finally:
            for _ in range(reserved - len(tickets)):
                self._places.give_back()
        for ticket in tickets:
            self._runner.begin(ticket)
        return reserved

    async def _make_room(self) -> None:
        """Let genesis give way: it runs again once nobody waits."""
        genesis = [running for running in self._runner.at_work() if running.ticket.author == GENESIS]
        if genesis:
            _log.info("genesis gives way to a mission that waits")
            await asyncio.to_thread(self._runner.give_back, genesis, "gave_way")

    def _outlook(self) -> Outlook:
        before = self._at_work()
        with self._image.snapshot() as root:
            found = missions.open_missions(root)
        if any(mission.author != GENESIS and mission.state not in missions.ENDED for mission in found):
            self._busy_at = time.monotonic()
        return look(
            found,
            owner=self._owner,
            at_work=before | self._at_work(),  # what began or ended meanwhile is no stray
            strays_before=self._strays,
            gone=self._absence.gone,
            most_adoptions=self._most_adoptions,
        )

    def _at_work(self) -> frozenset[str]:
        return frozenset(running.ticket.mission_id for running in self._runner.at_work())

    def _claimed(self, due: list[OpenMission]) -> list[Ticket]:
        def work(root: Any) -> list[Ticket]:
            found = []
            for mission in due:
                if mission.state == missions.ACCEPTED:
                    found.append(missions.claim(root, mission.mission_id, self._owner))
                else:
                    found.append(missions.adopt(root, mission, self._owner))
            return [ticket for ticket in found if ticket is not None]

        tickets = self._image.run(work, user=self._owner.kernel, note=f"claim of up to {len(due)} missions")
        adopted = {mission.mission_id: mission for mission in due if mission.state == missions.RUNNING}
        for ticket in tickets:
            before = adopted.get(ticket.mission_id)
            if before is not None:
                self._metrics.adopted.inc()
                _log.warning("adopted mission %s of %s, which is gone", ticket.mission_id, before.owner.kernel)
                self._log.record(
                    EventType.VESSEL,
                    cycle_id=ticket.cycle_id,
                    mission_id=ticket.mission_id,
                    detail={"what": "adopted", "owner": before.owner.incarnation, "epoch": ticket.epoch},
                )
        return tickets

    def _give_up(self, mission: OpenMission) -> None:
        error = (
            f"{mission.adoptions + 1} kernels were lost while they thought about this mission, the last one "
            f"{mission.owner.kernel}: it is not started again"
        )

        def work(root: Any) -> bool:
            return missions.give_up(root, mission, error) is not None

        if not self._image.run(work, user=self._owner.kernel, note="mission given up", mission=mission.mission_id):
            return
        _log.error("mission %s: %s", mission.mission_id, error)
        status = self._status(mission.mission_id)
        if status is not None:
            self._tell(status, {"error": error})
            self._events.publish(f"mission/{mission.mission_id}", MissionEnded(status=status))
            self._on_end(status)
        self._metrics.missions.labels(missions.FAILED).inc()
        self._log.when_durable(lambda: self._tidy(mission.mission_id))

    def _take_leave(self, mission: OpenMission) -> None:
        """Tidy up after a mission whose owner died before it did, and write the record that it may have owed."""

        def work(root: Any) -> bool:
            return missions.tidy(root, mission.mission_id)

        if not self._image.run(work, user=self._owner.kernel, note="tidied up", mission=mission.mission_id):
            return
        status = self._status(mission.mission_id)
        if status is not None and not outcome_is_logged(self._logs / mission.owner.kernel, mission.cycle_id):
            self._tell(status, {"owner": mission.owner.incarnation})

    def _tell(self, status: MissionStatus, detail: dict[str, Any]) -> None:
        """Log the outcome of a mission in the place of its owner."""
        self._log.record(
            EventType.FINAL_OUTCOME,
            cycle_id=status.cycle_id,
            mission_id=status.mission_id,
            transaction_id=status.tid or None,
            current_state=status.state,
            active_persona=ORCHESTRATOR,
            adapter=status.adapter,
            usage=status.usage,
            duration_ms=status.duration_ms,
            detail={"weaver": status.weaver, "personas": list(status.personas), "told_by": "adopter", **detail},
            final_outcome=status.state,
        )

    def _status(self, mission_id: str) -> MissionStatus | None:
        with self._image.snapshot() as root:
            found = missions.find(root, mission_id)
            return None if found is None else missions.status(found)


def outcome_is_logged(folder: Path, cycle_id: str) -> bool:
    """Say whether a kernel's log, as far as it is on this machine, holds the outcome of a cycle."""
    if not folder.is_dir():
        return False
    wanted = cycle_id.encode()
    for _, path in reversed(SegmentFolder(folder).paths()):
        if any(wanted in line and b'"event_type":"FINAL_OUTCOME"' in line for line in lines(path)):
            return True
    return False
