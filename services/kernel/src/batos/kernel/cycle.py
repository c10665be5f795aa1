"""One thought, one transaction: a cycle runs the state machine for a mission and commits all of it, or nothing."""

from __future__ import annotations

import time
import traceback
from dataclasses import replace
from typing import Any

import msgspec
import stamina
from ZODB.POSException import ConflictError

from batos import mind
from batos.kernel import missions
from batos.kernel.asking import Asking
from batos.kernel.chronicle import ORCHESTRATOR, Chronicle
from batos.kernel.errors import Fenced, ThoughtFailed
from batos.kernel.genesis.states import FAILED, LAST
from batos.kernel.host import SCRATCH, Host, validated_draft
from batos.kernel.ticket import CycleOutcome, Engine, EventSink, LogSink, Ticket
from batos.protocol import EventType
from batos.uvm import (
    CommitFateUnknown,
    CovenantBroken,
    Image,
    Root,
    SandboxBusy,
    SandboxError,
    Session,
    SessionMisuse,
    Transient,
    UvmObject,
    plain,
    slots,
)
from batos.uvm.guardians import ACTORS
from batos.uvm.sandbox_errors import passed_through

PROMPT_TIMEOUT_S = 240.0
"""How long the answers to one batch of prompts are waited for, in seconds."""
RUNS = 8
"""How often a thought is thought at most, where its commit meets conflicts or the image goes away for a while."""
RUNS_TIMEOUT_S = 300.0
"""No further run begins later than this after the first one began, in seconds."""
MOST_ERROR = 2000
"""Characters of what is told about a failure."""
VALIDATING = "VALIDATING"
MOST_STATES = 32
"""A thought that enters more states than this runs in a circle."""

_AGAIN = (ConflictError, Transient, CommitFateUnknown)
"""After these the thought is thought again on a fresh snapshot, with the same answers."""
_PASSED_ON = (Fenced, *_AGAIN)
"""These are no failures of the thought."""


class Cycle:
    """Thinks about one mission, in the calling thread, with a session of its own.

    Args:
        image: where the mind lives.
        ticket: the claimed mission.
        engine: answers prompts.
        log: the metacognition log.
        events: the events channel.
        prompt_timeout_s: how long the answers to one batch of prompts are waited for, in seconds.
    """

    def __init__(
        self,
        image: Image,
        ticket: Ticket,
        engine: Engine,
        log: LogSink,
        events: EventSink,
        *,
        prompt_timeout_s: float = PROMPT_TIMEOUT_S,
    ) -> None:
        self._image = image
        self._ticket = ticket
        self._chronicle = Chronicle(ticket, log, events)
        self._asking = Asking(ticket, engine, self._chronicle, prompt_timeout_s)
        self._began = 0.0
        self._unsure: CycleOutcome | None = None
        """What a commit of unknown fate would have recorded."""

    def run(self) -> CycleOutcome:
        """Think, and commit the thought.

        Returns:
            How it ended. COMPLETE is committed; for FAILED nothing is, and the caller records the outcome in a
            transaction of its own.

        Raises:
            Fenced: the mission is somebody else's by now; nothing was committed, and nothing may be recorded.
            batos.uvm.Transient: the image cannot be reached; the mission stays as it is recorded.
            batos.uvm.CommitFateUnknown: the image went away during the commit and did not come back.
        """
        self._began = time.monotonic()
        with self._chronicle.at_work():
            return self._run()

    def _run(self) -> CycleOutcome:
        try:
            for attempt in stamina.retry_context(
                on=_AGAIN, attempts=RUNS, timeout=RUNS_TIMEOUT_S, wait_initial=0.01, wait_max=5.0, wait_jitter=0.05
            ):
                with attempt:
                    return self._once()
        except ConflictError as conflict:
            return self._told_failure(ThoughtFailed("contention", f"others kept writing the same: {conflict}"), {})
        raise AssertionError("unreachable: the last run returns or raises")

    def _once(self) -> CycleOutcome:
        with self._image.session() as session:
            root = session.begin()
            self._chronicle.begin(session.snapshot_tid)
            if self._unsure is not None and (tid := self._committed(root)):
                return self._told_success(replace(self._unsure, tid=tid))
            record = missions.fence(root, self._ticket)
            host = Host(root, self._ticket, self._chronicle, self._asking)
            thought = _Thought(host, self._chronicle)
            try:
                thought.think()
                outcome = self._outcome(host, session.snapshot_tid)
                record.thought = thought.cycle
                missions.complete(root, self._ticket, outcome)
                mind.keep_organization(root, self._ticket.cycle_id, besides={record._p_oid})  # noqa: SLF001 - ZODB's public protocol
                tid = self._commit(session, outcome)
            except (Exception, SystemExit) as wrong:  # a live method may raise anything: it becomes the mission's error
                if _is_one(wrong, _PASSED_ON):
                    raise
                return self._told_failure(wrong, self._doomed(session, thought))
            return self._told_success(replace(outcome, tid=tid))

    def _commit(self, session: Session, outcome: CycleOutcome) -> str:
        try:
            return session.commit(
                user=self._ticket.author, note="thought", cycle=self._ticket.cycle_id, mission=self._ticket.mission_id
            )
        except CommitFateUnknown:
            self._unsure = outcome
            raise

    def _committed(self, root: Root) -> str:
        """Return the transaction in which this very cycle is recorded as COMPLETE; empty where it is not."""
        found = missions.find(root, self._ticket.mission_id)
        ours = found is not None and (found.cycle_id, found.epoch) == (self._ticket.cycle_id, self._ticket.epoch)
        return missions.tid(found) if ours else ""

    def _doomed(self, session: Session, thought: _Thought) -> dict[str, Any]:
        """Make sure that nothing of a failed thought is ever stored; return what it had reached."""
        try:
            session.doom()
        except SessionMisuse:  # the commit itself was refused, and has ended the transaction
            self._chronicle.enter(FAILED, ORCHESTRATOR)
            return {"failed_in": LAST}
        return thought.fail()

    def _outcome(self, host: Host, snapshot_tid: str) -> CycleOutcome:
        if host.artifact is None:
            host.fail("nothing_installed", f"the thought reached {LAST} without an answer")
        text, answer = host.artifact
        return CycleOutcome(
            outcome="COMPLETE",
            answer=text,
            personas=tuple(self._asking.personas),
            weaver=answer.persona,
            model=answer.model,
            adapter=answer.adapter,
            prompt_hash=answer.prompt_hash,
            verbatim=text in answer.text,
            dna_version=int(host.persona(answer.persona).dna["version"]),
            usage=self._asking.usage,
            duration_ms=self._elapsed_ms(),
            snapshot_tid=snapshot_tid,
        )

    def _told_success(self, outcome: CycleOutcome) -> CycleOutcome:
        self._chronicle.record(
            EventType.FINAL_OUTCOME,
            prompt_hash=outcome.prompt_hash,
            detail={"weaver": outcome.weaver, "personas": list(outcome.personas), "verbatim": outcome.verbatim},
            transaction_id=outcome.tid,
            final_outcome=outcome.outcome,
            adapter=outcome.adapter,
            usage=outcome.usage,
            duration_ms=outcome.duration_ms,
        )
        return outcome

    def _told_failure(self, wrong: BaseException, reached: dict[str, Any]) -> CycleOutcome:
        code, error = _reason(wrong)
        outcome = CycleOutcome(
            outcome="FAILED",
            error=error,
            personas=tuple(self._asking.personas),
            weaver=self._ticket.weaver,
            usage=self._asking.usage,
            duration_ms=self._elapsed_ms(),
            snapshot_tid=self._chronicle.snapshot_tid,
        )
        self._chronicle.record(
            EventType.FINAL_OUTCOME,
            detail={"code": code, "error": error, "at": _live_place(wrong), **_ended(wrong), **reached},
            final_outcome=outcome.outcome,
            usage=outcome.usage,
            duration_ms=outcome.duration_ms,
        )
        return outcome

    def _elapsed_ms(self) -> int:
        return round((time.monotonic() - self._began) * 1000)


class _Thought:
    """One run through the states, within one transaction."""

    def __init__(self, host: Host, chronicle: Chronicle) -> None:
        self._host = host
        self._chronicle = chronicle
        self._state = ""
        self.cycle: UvmObject | None = None

    def think(self) -> None:
        """Go from the first state to COMPLETE.

        Raises:
            ThoughtFailed: a state says so, or leads where it may not lead.
        """
        host = self._host
        cycle = host.lobby.orchestrator_obj.start_cognitive_cycle_for_(host, host.mission_id)
        if not isinstance(cycle, UvmObject):
            host.fail("cycle_invalid", f"the orchestrator began a {type(cycle).__name__}, which is no cycle")
        if cycle._p_jar is not None:  # noqa: SLF001 - ZODB's public protocol has underscores
            host.fail("cycle_invalid", f"the orchestrator began {cycle!r}, which is stored: a cycle is a new object")
        # Of the image from now on: what a stopped method changed of it can be taken back.
        host.lobby._p_jar.add(cycle)  # noqa: SLF001 - as above
        host.cycle = self.cycle = cycle
        name, state = cycle.synthesis_state.name, cycle.synthesis_state
        if host.state(name) is not state:
            host.fail("cycle_invalid", f"the orchestrator began in {state!r}, which is no state of the state machine")
        for _ in range(MOST_STATES):
            self._enter(name, state)
            following = cycle._process_synthesis_(host)
            if name == LAST:
                if SCRATCH in slots(cycle):
                    delattr(cycle, SCRATCH)  # methods that cycles wrote cannot do so themselves
                return
            if name == VALIDATING:
                host.validated = host.draft
            if following == FAILED or following not in state.successors:
                host.fail("transition_invalid", f"state {name} may not lead to {following!r:.80}")
            if following == LAST:
                validated_draft(host)
            name, state = following, host.state(following)
            cycle.synthesis_state = state
        host.fail("thought_circles", f"the thought entered {MOST_STATES} states without an end")

    def fail(self) -> dict[str, Any]:
        """Enter FAILED and return what its handler tells; a handler that fails itself cannot hide the first failure."""
        failed_in = self._state
        self._chronicle.enter(FAILED, ORCHESTRATOR)
        if self.cycle is None:
            return {"failed_in": failed_in}
        try:
            self.cycle.synthesis_state = self._host.state(FAILED)
            told = plain(self.cycle._process_synthesis_(self._host)) or {}
            msgspec.json.encode(told)
        except (Exception, SystemExit) as wrong:  # whatever it raises is told beside the first failure
            if _is_one(wrong, _AGAIN):
                raise
            told = {"failed_handler": _reason(wrong)[1]}
        return {"failed_in": failed_in, **told}

    def _enter(self, name: str, state: UvmObject) -> None:
        actor = state.persona
        if actor not in ACTORS:
            self._host.fail("persona_unknown", f"{actor!r:.80} is to act in {name}, and is none of {', '.join(ACTORS)}")
        self._state = name
        # The mission's own weaver, where it names one and the state is the weaver's.
        self._chronicle.enter(name, (self._host.weaver or actor) if name == "SYNTHESIZING" else actor)


def _is_one(wrong: BaseException, kinds: tuple[type[Exception], ...]) -> bool:
    """Whether an error is of these kinds. A busy sandbox is of none: the thought has waited, and would wait again."""
    return isinstance(wrong, kinds) and not isinstance(wrong, SandboxBusy)


def _reason(wrong: BaseException) -> tuple[str, str]:
    """Return a code and a sentence for why a thought failed."""
    text = str(wrong)
    told = text if len(text) <= MOST_ERROR else f"{text[:MOST_ERROR]}… ({len(text)} characters)"
    code = getattr(wrong, "code", "")
    if isinstance(code, str) and code and hasattr(wrong, "message"):
        return code, told
    if isinstance(wrong, CovenantBroken):
        return "covenant_broken", told
    if isinstance(wrong, SandboxError):
        return "method_stopped", told
    return "live_method_failed", f"{type(wrong).__name__}: {told}"


def _ended(wrong: BaseException) -> dict[str, list[str]]:
    """Return which methods of cycles a failure ended that none of them raised, the innermost first."""
    methods = passed_through(wrong)
    return {"methods": methods} if methods else {}


def _live_place(wrong: BaseException) -> str:
    """Return the last line of a live method that an error passed through; empty where there was none."""
    for frame in reversed(traceback.extract_tb(wrong.__traceback__)):
        if frame.filename.startswith("<live "):
            return f"{frame.filename}:{frame.lineno}"
    return ""
