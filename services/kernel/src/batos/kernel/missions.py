"""Missions as the image keeps them: one record each, written by its owner alone.

`root()['missions']` holds two lists of 64 trees, a mission's place in both given by the last byte of its id, so that
kernels that take missions at the same time rarely meet: `shards` (id to record) and `open` (the ids of missions that
nobody has finished tidying up after). A record is written by who owns it and nobody else: owner and epoch are checked
in the transaction that writes it, and it has no conflict resolution, so that a kernel that lost a mission cannot write
anything about it. The end of a mission touches its record only; its id leaves `open` later (`tidy`).
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from BTrees.OOBTree import OOBTree, OOTreeSet

from batos.kernel import mission_shape
from batos.kernel.errors import Fenced, KernelError
from batos.kernel.mission_shape import AT_FIRST, thought_tid, whole
from batos.kernel.ticket import CycleOutcome, Ticket
from batos.mind import Root, log_memory
from batos.protocol import MissionStatus, Usage, new_id
from batos.uvm import Left, Undone, UvmObject, undo

MISSIONS = "missions"
SHARDS = 64
ID_DIGITS = 32

ACCEPTED = "ACCEPTED"
RUNNING = "RUNNING"
COMPLETE = mission_shape.COMPLETE
FAILED = "FAILED"
UNDONE = mission_shape.UNDONE
ENDED = (COMPLETE, FAILED, UNDONE)

_KEEP = ""
"""Stands in every set of open missions: a bucket that never becomes empty never conflicts for it."""


class Owner(NamedTuple):
    """One incarnation of one kernel."""

    kernel: str
    incarnation: str


class Created(NamedTuple):
    """What `create` found."""

    record: Any
    duplicate: bool


class OpenMission(NamedTuple):
    """A mission that is not tidied up after yet."""

    mission_id: str
    state: str
    author: str
    owner: Owner
    epoch: int
    adoptions: int
    cycle_id: str
    submitted_at: float


def ensure(root: Root) -> None:
    """Make the trees where the image has none yet."""
    if MISSIONS not in root:
        root[MISSIONS] = UvmObject(
            shards=[OOBTree() for _ in range(SHARDS)], open=[OOTreeSet((_KEEP,)) for _ in range(SHARDS)]
        )


def is_id(text: str) -> bool:
    """Say whether a text can be a mission's id: 32 lower-case hexadecimal digits."""
    return len(text) == ID_DIGITS and all(digit in "0123456789abcdef" for digit in text)


def create(
    root: Root,
    *,
    mission_id: str,
    text: str,
    weaver: str = "",
    author: str = "architect",
    owner: Owner | None = None,
) -> Created:
    """Record a mission. The same id twice is one mission.

    Args:
        root: the image's root.
        mission_id: made by who asks, see `is_id`.
        text: what the mind is asked to do.
        weaver: persona that is to weave the answer, upper case; empty for the state machine's own choice.
        author: who asks.
        owner: who runs it from now on; None where it has to wait.

    Raises:
        KernelError: `mission_id_taken`, the id stands for something else that was asked.
    """
    shard = _shard(root, mission_id)
    known = shard.get(mission_id)
    if known is not None:
        if (known.text, known.requested_weaver) != (text, weaver):
            raise KernelError(
                "mission_id_taken",
                f"mission {mission_id} is there already and asks something else",
                "give a new mission a new id (UUIDv7)",
            )
        return Created(known, duplicate=True)
    record = UvmObject(
        mission_id=mission_id,
        text=text,
        requested_weaver=weaver,
        author=author,
        state=ACCEPTED,
        kernel="",
        incarnation="",
        epoch=0,
        adoptions=0,
        cycle_id="",
        submitted_at=time.time(),
        **AT_FIRST,
    )
    shard[mission_id] = record
    root[MISSIONS].open[_place(mission_id)].insert(mission_id)
    if owner is not None:
        _own(record, owner)
    return Created(record, duplicate=False)


def ticket(record: Any) -> Ticket:
    """Return the right that a running mission's record gives to its owner."""
    return Ticket(
        mission_id=record.mission_id,
        text=record.text,
        weaver=record.requested_weaver,
        author=record.author,
        cycle_id=record.cycle_id,
        epoch=record.epoch,
        kernel=record.kernel,
        incarnation=record.incarnation,
        submitted_at=record.submitted_at,
    )


def claim(root: Root, mission_id: str, owner: Owner) -> Ticket | None:
    """Take a mission that nobody runs; None where somebody was faster."""
    found = find(root, mission_id)
    if found is None or found.state != ACCEPTED:
        return None
    _own(found, owner)
    return ticket(found)


def adopt(root: Root, mission: OpenMission, owner: Owner) -> Ticket | None:
    """Take over a mission from an owner that is gone, to be started again; None where it has moved on meanwhile."""
    found = find(root, mission.mission_id)
    if found is None or found.state != RUNNING or found.epoch != mission.epoch or _owner(found) != mission.owner:
        return None
    found.adoptions = found.adoptions + 1
    _own(found, owner)
    return ticket(found)


def fence(root: Root, held: Ticket) -> Any:
    """Return the record of a mission that the ticket's holder still owns.

    Raises:
        Fenced: somebody else owns it by now, or it has ended.
    """
    found = find(root, held.mission_id)
    if found is None:
        raise Fenced(held.mission_id, "the image does not hold it")
    if found.state != RUNNING or _owner(found) != (held.kernel, held.incarnation) or found.epoch != held.epoch:
        raise Fenced(
            held.mission_id,
            f"it is {found.state} in epoch {found.epoch} of {found.kernel or 'nobody'} ({found.incarnation[-8:]}), "
            f"the ticket is of epoch {held.epoch} of {held.kernel} ({held.incarnation[-8:]})",
        )
    return found


def complete(root: Root, held: Ticket, outcome: CycleOutcome) -> None:
    """Record the answer, within the transaction of the thought. That transaction's tid is the mission's.

    Raises:
        Fenced: somebody else owns the mission by now.
    """
    _end(fence(root, held), COMPLETE, outcome)


def fail(root: Root, held: Ticket, outcome: CycleOutcome) -> None:
    """Record why a thought failed, within a transaction of its own.

    Raises:
        Fenced: somebody else owns the mission by now.
    """
    _end(fence(root, held), FAILED, outcome)


def give_up(root: Root, mission: OpenMission, error: str) -> Any:
    """Record that a mission is not started again; return its record, None where it has moved on meanwhile."""
    found = find(root, mission.mission_id)
    if found is None or found.state != RUNNING or found.epoch != mission.epoch or _owner(found) != mission.owner:
        return None
    _end(found, FAILED, CycleOutcome(outcome="FAILED", error=error))
    return found


def undo_thought(root: Root, mission_id: str) -> Undone:
    """Undo what the thought of a COMPLETE mission changed, wherever nothing built on it; the mission is UNDONE then.

    Asked again it changes nothing, and tells again what it did.

    Raises:
        KernelError: there is no such mission, or its thought was never committed.
        NoSuchMoment: what stood before the thought was packed away; nothing was changed.
    """
    found = find(root, mission_id)
    if found is None:
        raise KernelError("mission_unknown", f"the image holds no mission {mission_id!r}", "see `batos mission list`")
    if found.state == UNDONE:
        return Undone(tuple(found.restored), found.made, tuple(Left(*pair) for pair in found.left))
    if found.state != COMPLETE:
        raise KernelError(
            "mission_not_complete",
            f"mission {mission_id} is {found.state}: only a thought that was committed can be undone",
            "a mission that FAILED has changed nothing",
        )
    thought = tid(found)
    # Taken back to its state before, the record would say that the mission is still to be run.
    done = undo(root, thought, spared={found._p_oid})  # noqa: SLF001 - ZODB's public protocol has underscores
    found.state = UNDONE
    found.thought_tid = thought
    log_memory.note_undone(root, found.cycle_id)
    found.restored, found.made, found.left = done.restored, done.made, tuple((one.path, one.why) for one in done.left)
    return done


def release(root: Root, held: Ticket) -> None:
    """Give a mission back, so that any kernel may start it again.

    Raises:
        Fenced: somebody else owns the mission by now, or it has ended.
    """
    found = fence(root, held)
    found.state = ACCEPTED
    found.kernel = ""
    found.incarnation = ""
    found.epoch = found.epoch + 1


def tidy(root: Root, mission_id: str) -> bool:
    """Take an ended mission out of the open ones; return whether it was there."""
    found = find(root, mission_id)
    opened = root[MISSIONS].open[_place(mission_id)]
    if mission_id not in opened or (found is not None and found.state not in ENDED):
        return False
    opened.remove(mission_id)
    return True


def find(root: Root, mission_id: str) -> Any:
    """Return a mission's record, None where there is none."""
    return _shard(root, mission_id).get(mission_id) if MISSIONS in root else None


def status(record: Any) -> MissionStatus:
    """Return what the bus says of a mission."""
    own = whole(record)
    prompt_tokens, completion_tokens = own["usage"]
    return MissionStatus(
        mission_id=record.mission_id,
        text=record.text,
        state=record.state,
        author=record.author,
        answer=own["answer"],
        error=own["error"],
        cycle_id=record.cycle_id,
        tid=tid(record),
        personas=tuple(own["personas"]),
        weaver=own["weaver"] or record.requested_weaver,
        model=own["model"],
        adapter=own["adapter"],
        dna_version=own["dna_version"],
        usage=Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens),
        duration_ms=own["duration_ms"],
        kernel=record.kernel,
        incarnation=record.incarnation,
        epoch=record.epoch,
        submitted_at=record.submitted_at,
    )


def tid(record: Any) -> str:
    """Return the transaction that a mission's thought committed as; empty where none did."""
    return thought_tid(record)


def newest(root: Root, limit: int) -> list[Any]:
    """Return the records with the highest ids, which begin with their time: the newest first."""
    if MISSIONS not in root:
        return []
    shards = [_from_the_end(shard) for shard in root[MISSIONS].shards]
    found = heapq.merge(*shards, key=lambda pair: pair[0], reverse=True)
    return [record for _, (_, record) in zip(range(limit), found, strict=False)]


def open_missions(root: Root) -> list[OpenMission]:
    """Return every mission that is not tidied up after yet, oldest first."""
    if MISSIONS not in root:
        return []
    found = []
    for opened in root[MISSIONS].open:
        for mission_id in opened:
            record = find(root, mission_id) if mission_id != _KEEP else None
            if record is not None:
                found.append(
                    OpenMission(
                        mission_id,
                        record.state,
                        record.author,
                        _owner(record),
                        record.epoch,
                        record.adoptions,
                        record.cycle_id,
                        record.submitted_at,
                    )
                )
    return sorted(found, key=lambda mission: (mission.submitted_at, mission.mission_id))


def _own(record: Any, owner: Owner) -> None:
    record.state = RUNNING
    record.kernel, record.incarnation = owner
    record.epoch = record.epoch + 1
    if not record.cycle_id:
        record.cycle_id = new_id()


def _owner(record: Any) -> Owner:
    return Owner(record.kernel, record.incarnation)


def _end(record: Any, state: str, outcome: CycleOutcome) -> None:
    record.state = state
    record.answer = outcome.answer
    record.error = outcome.error
    record.personas = tuple(outcome.personas)
    record.weaver = outcome.weaver
    record.model = outcome.model
    record.adapter = outcome.adapter
    record.dna_version = outcome.dna_version
    record.usage = (outcome.usage.prompt_tokens, outcome.usage.completion_tokens)
    record.duration_ms = outcome.duration_ms


def _place(mission_id: str) -> int:
    return int(mission_id[-2:], 16) % SHARDS


def _shard(root: Root, mission_id: str) -> Any:
    return root[MISSIONS].shards[_place(mission_id)]


def _from_the_end(shard: Any) -> Iterator[tuple[str, Any]]:
    """Yield a tree's items, the highest key first."""
    try:
        key = shard.maxKey()
        while True:
            yield key, shard[key]
            key = shard.maxKey(f"{int(key, 16) - 1:0{ID_DIGITS}x}")
    except ValueError:
        return
