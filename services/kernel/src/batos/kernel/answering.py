"""What a kernel answers on the bus about missions, personas and its log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from batos import mind
from batos.kernel import looking, missions
from batos.kernel.errors import KernelError
from batos.kernel.intake import Intake, checked
from batos.kernel.segments import SegmentFolder
from batos.kernel.watching import MissionWatch
from batos.protocol import (
    MAX_MESSAGE_BYTES,
    Handler,
    LogChunk,
    LogRead,
    Message,
    MissionAccepted,
    MissionList,
    Missions,
    MissionStatus,
    MissionSubmit,
    MissionWait,
    PersonaGet,
    PersonaView,
    RequestContext,
    RequestFailed,
)
from batos.uvm import Image, plain, seen_tid

LIST_LIMIT = 1000
"""Missions that one answer lists at most."""
LIST_BYTES = MAX_MESSAGE_BYTES // 4
"""Bytes of text that one answer lists at most."""
READ_LIMIT = MAX_MESSAGE_BYTES // 4
"""Bytes of the log that one answer holds at most, unless a single line is longer."""
WAIT_MARGIN_S = 0.2
"""How long before its deadline a request that waits is answered."""

T = TypeVar("T")


class Answering:
    """Handlers by type of message."""

    def __init__(
        self, *, image: Image, intake: Intake, watch: MissionWatch, log: SegmentFolder, kernel: str, text_bytes: int
    ) -> None:
        """Begin.

        Args:
            image: what is asked about.
            intake: makes missions durable.
            watch: waits for their end.
            log: this kernel's log.
            kernel: its name.
            text_bytes: bytes that a mission's text may have.
        """
        self._image = image
        self._intake = intake
        self._watch = watch
        self._log = log
        self._kernel = kernel
        self._text_bytes = text_bytes

    def handlers(self) -> Mapping[type[Message], Handler]:
        """Return who answers what."""
        return {
            MissionSubmit: self._submit,
            MissionWait: self._wait,
            MissionList: self._list,
            PersonaGet: self._persona,
            LogRead: self._read_log,
        }

    async def _submit(self, message: MissionSubmit, context: RequestContext) -> MissionAccepted:
        del context
        mission = checked(message, most_bytes=self._text_bytes)
        return await asyncio.wrap_future(self._intake.submit(mission))

    async def _wait(self, message: MissionWait, context: RequestContext) -> MissionStatus:
        if not missions.is_id(message.mission_id):
            raise RequestFailed("mission_id_invalid", "the mission's id is malformed", "see `batos mission list`")
        if message.at:
            return await self._looked(lambda root: _as_it_stood(root, message.mission_id), message.at)
        timeout_s = max(0.0, min(message.timeout_s, context.deadline_s - WAIT_MARGIN_S))
        return await self._watch.status(message.mission_id, timeout_s)

    async def _list(self, message: MissionList, context: RequestContext) -> Missions:
        del context
        limit = max(0, min(message.limit, LIST_LIMIT))
        return await self._looked(lambda root: _newest(root, limit), message.at)

    async def _persona(self, message: PersonaGet, context: RequestContext) -> PersonaView:
        del context
        return await self._looked(lambda root: persona_view(root, message.persona), message.at)

    async def _looked(self, look: Callable[[mind.Root], T], at: str) -> T:
        return await asyncio.to_thread(looking.look, self._image, look, at)

    async def _read_log(self, message: LogRead, context: RequestContext) -> LogChunk:
        del context
        limit = max(1, min(message.limit, READ_LIMIT))
        try:
            chunk = await asyncio.to_thread(self._log.read, message.segment, message.offset, limit)
        except KernelError as error:
            raise RequestFailed(error.code, error.message, error.hint) from error
        return LogChunk(
            segment=chunk.segment,
            offset=chunk.offset,
            data=chunk.data,
            next_offset=chunk.next_offset,
            next_segment=chunk.next_segment,
            kernel=self._kernel,
        )


def _newest(root: mind.Root, limit: int) -> Missions:
    found: list[MissionStatus] = []
    size = 0
    for record in missions.newest(root, limit):
        status = missions.status(record)
        size += len(status.text) + len(status.answer)
        if found and size > LIST_BYTES:
            break
        found.append(status)
    return Missions(missions=tuple(found), as_of=seen_tid(root))


def _as_it_stood(root: mind.Root, mission_id: str) -> MissionStatus:
    record = missions.find(root, mission_id)
    if record is None:
        raise KernelError(
            "mission_unknown", f"there was no mission {mission_id}", "see `batos mission list` with the same --at"
        )
    return msgspec.structs.replace(missions.status(record), as_of=seen_tid(root))


def persona_view(root: mind.Root, name: str) -> PersonaView:
    """Return a persona as the bus shows it.

    Raises:
        NotFound: there is no such persona.
    """
    persona = mind.persona(root, name)
    ancestor: Any = getattr(persona, "ancestor", None)
    return PersonaView(
        name=str(persona.name),
        dna=plain(persona.dna),
        codex=plain(persona.codex),
        pillars={facet: str(prompt) for facet, prompt in plain(persona.pillars).items()},
        ancestor="" if ancestor is None else str(getattr(ancestor, "name", "")),
        as_of=seen_tid(root),
    )
