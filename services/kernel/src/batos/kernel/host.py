"""The host: all that live methods may ask of the kernel while a thought runs.

Live methods are the mind's own and can be changed; this is the fixed ground under them. What is not offered here, a
live method cannot do to the vessel. What cycles wrote themselves gets less of it (`OFFERED`), and may hand over
anything: what is kept of it is looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, NoReturn, TypeVar

from batos import mind
from batos.kernel.asking import Asking, Voice
from batos.kernel.chronicle import ORCHESTRATOR, Chronicle
from batos.kernel.errors import GivenUp, ThoughtFailed
from batos.kernel.prompt import Answer, PartKind, Prompt, Role, Turn, turn
from batos.kernel.ticket import Ticket
from batos.mind.lobby import ALFRED
from batos.protocol import EventType
from batos.uvm import CovenantBroken, DataGuardian, UvmObject, plain, slots
from batos.uvm.capabilities import Rights

T = TypeVar("T")

COVENANT_KEEPER = ALFRED
"""Whose codex holds the data covenants."""
SCRATCH = "_tmp_synthesis_data"
"""The running cycle's slot for what its states hand to each other."""
MOST_OPTIONS = 1000
MOST_SALT = 200
"""Bounds of one choice: options, and characters of its salt."""
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_PROMPT_HASH = re.compile(r"[0-9a-f]{64}|")
TOLD = frozenset({
    EventType.ARTIFACT_GENERATED, EventType.DELEGATION_START, EventType.DELEGATION_COMPLETE,
    EventType.VALIDATION_ATTEMPT, EventType.VALIDATION_SUCCESS, EventType.VALIDATION_FAILURE,
})  # fmt: skip
"""What live methods record. All else is the kernel's own word: the mind learns from prompts, answers and outcomes."""


class Host:
    """One run of one thought, as live methods see the kernel.

    Attributes:
        draft: the proposed answer's text and the answer that it was made of, once there is one.
        validated: the draft that stood when VALIDATING had last looked at it.
        artifact: the draft that was installed, once it has been.
        cycle: the cycle that runs, once it has begun.
    """

    def __init__(self, root: mind.Root, ticket: Ticket, chronicle: Chronicle, asking: Asking) -> None:
        self._root = root
        self._ticket = ticket
        self._chronicle = chronicle
        self._asking = asking
        self.draft: tuple[str, Answer] | None = None
        self.validated: tuple[str, Answer] | None = None
        self.artifact: tuple[str, Answer] | None = None
        self.cycle: UvmObject | None = None

    # ---------------------------------------------------------------- the mission

    @property
    def mission_id(self) -> str:
        """The mission's id."""
        return self._ticket.mission_id

    @property
    def mission_text(self) -> str:
        """What the mind is asked to do."""
        return self._ticket.text

    @property
    def author(self) -> str:
        """Who asked."""
        return self._ticket.author

    @property
    def weaver(self) -> str:
        """Persona that the mission names as the weaver; empty where it leaves it to the state machine."""
        return self._ticket.weaver.upper()

    # ---------------------------------------------------------------- the mind

    @property
    def lobby(self) -> UvmObject:
        """The object from which all is reached."""
        return mind.lobby(self._root)

    def persona(self, name: str) -> UvmObject:
        """Return a persona's prototype."""
        return mind.persona(self._root, name)

    def persona_of(self, facet: str) -> UvmObject:
        """Return the persona one of whose pillars this is.

        Raises:
            ThoughtFailed: no persona has this pillar.
        """
        for name in mind.PERSONAS:
            found = mind.persona(self._root, name)
            if facet in found.pillars:
                return found
        return self._refuse("facet_unknown", f"no persona has a pillar named {facet!r}")

    def state(self, name: str) -> UvmObject:
        """Return the prototype of a state of the state machine."""
        found = None if name.startswith("_") else getattr(self.lobby.psm_prototypes_obj, name, None)
        if not isinstance(found, UvmObject):
            self._refuse("state_unknown", f"the state machine has no state {name!r}")
        return found

    def choose(self, options: Sequence[T], count: int, salt: str) -> list[T]:
        """Return `count` of the options, drawn by the mission's id: the same ones whenever it is thought again.

        Raises:
            ThoughtFailed: there are too many, or the salt is too long.
        """
        if len(options) > MOST_OPTIONS or len(f"{salt}") > MOST_SALT:
            self._refuse(
                "choice_invalid", f"a choice is among {MOST_OPTIONS} at most, salted by {MOST_SALT} characters at most"
            )
        ranked = sorted(
            range(len(options)), key=lambda place: sha256(f"{self.mission_id}/{salt}/{place}".encode()).digest()
        )
        return [options[place] for place in ranked[:count]]

    # ---------------------------------------------------------------- what the states hand to each other

    def note(self, name: object, value: Any) -> None:
        """Set an entry of the running cycle's scratch data, which ends with the thought; from version 2 on."""
        if self.cycle is None or not isinstance(name, str):
            self._refuse("note_invalid", "notes have names, and are made while a cycle runs")
        if SCRATCH not in slots(self.cycle):
            setattr(self.cycle, SCRATCH, {})
        getattr(self.cycle, SCRATCH)[name] = value

    def noted(self, name: str) -> Any:
        """Return a copy of one entry of the running cycle's scratch data; from version 2 on.

        Raises:
            ThoughtFailed: there is no such entry.
        """
        notes = {} if self.cycle is None else slots(self.cycle).get(SCRATCH) or {}
        if name not in notes:
            self._refuse("note_missing", f"nothing is noted under {name!r}", f"there is: {', '.join(map(str, notes))}")
        return plain(notes[name])

    # ---------------------------------------------------------------- asking

    def turn(self, role: Role, *parts: tuple[PartKind, str] | str) -> Turn:
        """Build a message from parts, a line each: texts, or pairs of kind and text for what may be cut."""
        return turn(role, *parts)

    def prompt(
        self,
        persona: str,
        step: str,
        turns: Sequence[Turn],
        max_tokens: int,
        *,
        facet: str = "",
        attempt: int = 1,
        schema: dict[str, Any] | None = None,
        top_p: float = 0.95,
        repeat_penalty: float = 1.0,
    ) -> Prompt:
        """Build a prompt; see `Prompt` for what the arguments mean."""
        return Prompt(
            persona=persona,
            step=step,
            turns=tuple(turns),
            max_tokens=max_tokens,
            facet=facet,
            attempt=attempt,
            schema=schema,
            top_p=top_p,
            repeat_penalty=repeat_penalty,
        )

    def ask(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """Ask all prompts at once and wait for all answers, which stand in the prompts' order.

        Raises:
            ThoughtFailed: there are too many, at once or in the thought as a whole.
        """
        return self._asking.ask([(prompt, self._voice(prompt.persona)) for prompt in prompts])

    def _voice(self, persona: str) -> Voice:
        dna = self.persona(persona).dna
        return Voice(
            temperature=float(dna["temperature"]),
            adapter=str(dna["adapters"].get(self._asking.model.model_hash, "")),
        )

    # ---------------------------------------------------------------- covenants

    def covenant(self, name: str) -> dict[str, Any]:
        """Return a data covenant of the codex: a JSON Schema."""
        covenants = self.persona(COVENANT_KEEPER).codex["covenants"]
        if name not in covenants:
            self._refuse("covenant_unknown", f"the codex holds no covenant named {name!r}")
        schema: dict[str, Any] = plain(covenants[name])
        return schema

    def broken(self, covenant: str, data: Any) -> list[str]:
        """Return in which ways data breaks a covenant, one sentence each; nothing where it keeps it."""
        try:
            DataGuardian.validate(self.covenant(covenant), data)
        except CovenantBroken as broken:
            return list(broken.errors)
        return []

    def parsed(self, text: str) -> tuple[Any, str]:
        """Return the value of a JSON text and an empty sentence, or None and what is wrong with the text."""
        try:
            return json.loads(text), ""
        except ValueError as wrong:
            return None, f"it is not JSON: {wrong}"
        except RecursionError:
            return None, "it is nested too deeply"

    # ---------------------------------------------------------------- telling

    def record(self, event_type: str, *, persona: str = "", prompt_hash: object = "", **detail: Any) -> None:
        """Append a record to the metacognition log: of what a thought made, whom it asked, how it judged.

        Raises:
            ThoughtFailed: it is not a live method's to tell, or not by that persona.
        """
        kind = EventType(event_type)
        if kind not in TOLD:
            self._refuse("event_reserved", f"{kind} is recorded by the kernel alone")
        is_hash = isinstance(prompt_hash, str) and _PROMPT_HASH.fullmatch(prompt_hash)
        if not is_hash or persona not in {"", ORCHESTRATOR, *mind.PERSONAS}:
            self._refuse("record_invalid", f"{persona!r:.80} is no persona, or {prompt_hash!r:.80} no hash of a prompt")
        if persona:
            self._asking.heard(persona)
        self._chronicle.record(kind, persona=persona, prompt_hash=prompt_hash, detail=plain(detail))

    def propose(self, text: object, answer: object) -> None:
        """Hand over a draft: a text, and the answer that it was made of. VALIDATING looks at it before it counts."""
        if not isinstance(text, str) or not isinstance(answer, Answer):
            self._refuse("draft_invalid", "a draft is a text and the answer that it was made of")
        self.draft = (text, answer)

    def install(self) -> None:
        """Let the draft be the mission's answer from the moment in which the thought is committed.

        Raises:
            ThoughtFailed: there is none, or VALIDATING has not looked at it.
        """
        self.artifact = validated_draft(self)

    def fail(self, code: str, message: str, hint: str = "") -> NoReturn:
        """End the thought: nothing of it is kept but the reason.

        Args:
            code: for programs, such as `plan_invalid`.
            message: what is wrong, in one sentence.
            hint: what to do about it.
        """
        if not all(isinstance(text, str) for text in (code, message, hint)) or not _CODE.fullmatch(code):
            self._refuse(
                "failure_invalid",
                "the thought was ended without a proper code and sentence",
                "write host.fail('plan_invalid', 'what is wrong', 'what to do'), with texts alone",
            )
        raise GivenUp(code, message, hint)

    def _refuse(self, code: str, message: str, hint: str = "") -> NoReturn:
        raise ThoughtFailed(code, message, hint)


def validated_draft(host: Host) -> tuple[str, Answer]:
    """Return a thought's draft, after making sure that VALIDATING has looked at it since it was proposed.

    Raises:
        ThoughtFailed: it has not, or there is no draft.
    """
    if host.draft is None:
        raise ThoughtFailed("nothing_to_install", "the thought came to its end without a draft")
    if host.draft is not host.validated:
        raise ThoughtFailed(
            "draft_not_validated",
            "the draft was proposed after VALIDATING had its turn, or it never had one",
            "propose it before VALIDATING, or there",
        )
    return host.draft


OFFERED: Mapping[type, Rights] = {
    Host: Rights(
        reads=frozenset({"mission_id", "mission_text", "author", "weaver", "draft"}),
        sends=frozenset({
            "ask", "broken", "choose", "covenant", "fail", "install", "note", "noted", "parsed", "persona",
            "persona_of", "prompt", "propose", "record", "state", "turn",
        }),
    ),
    Turn: Rights(reads=frozenset({"role", "text"})),
    Prompt: Rights(
        reads=frozenset({
            "persona", "step", "turns", "max_tokens", "facet", "attempt", "schema", "top_p", "repeat_penalty",
        })
    ),
    Answer: Rights(
        reads=frozenset({"text", "persona", "facet", "finish_reason", "prompt_hash", "model", "adapter"})
    ),
}  # fmt: skip
"""What methods that cycles wrote may use of the kernel's objects, where they declare it for `arguments` or `results`.

The lobby is not among it: from there everything can be reached.
"""
