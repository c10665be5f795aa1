"""A vessel that stands in for kernel and engine: it thinks from a script and keeps missions as files of the home.

Words in a mission change its ways: `fail` makes it end FAILED, `wait` makes it think until the file `go-on` is there.
A file `kernel-broken` makes a start fail. Run as a module.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import ClassVar

import msgspec

from batos.protocol import (
    EngineDescribe,
    EngineDescription,
    FacetAnswered,
    FacetAsked,
    MissionAccepted,
    MissionEnded,
    MissionList,
    Missions,
    MissionStatus,
    MissionSubmit,
    MissionWait,
    PersonaGet,
    PersonaView,
    Progress,
    PromptLabel,
    RequestContext,
    RequestFailed,
    StateEntered,
    TokenDelta,
    Usage,
)
from batos.vessel import StartFailed, Vessel, VesselSettings, run

WORDS = ("a ", "ship ", "is ", "its ", "course")


class ScriptedKernel(Vessel):
    kind: ClassVar[str] = "kernel"

    async def start(self) -> None:
        if (self.settings.home / "kernel-broken").exists():
            raise StartFailed("kernel_broken", "the kernel is broken", "remove the file kernel-broken")
        self.missions.mkdir(exist_ok=True)
        self._tasks: set[asyncio.Task[None]] = set()
        handlers = {
            MissionSubmit: self._submit, MissionWait: self._wait, MissionList: self._list, PersonaGet: self._persona,
            EngineDescribe: self._engine,
        }  # fmt: skip
        self.peer.serve(["kernel", f"kernel/{self.name}", "inference"], handlers, capacity=16)
        task = asyncio.create_task(self._ready_once_heard())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ready_once_heard(self) -> None:
        """A bus listens to publishers some seconds after its start; a script is quicker than that, a model is not."""
        async with self.peer.subscribe("progress/heard") as events:
            self.peer.publish("progress/heard", Progress(what="heard", id=self.name, stage="said"))
            await asyncio.wait_for(anext(events), 20)
        self.set_ready(True)

    async def drain(self, timeout_s: float) -> None:
        await super().drain(timeout_s)
        await asyncio.gather(*self._tasks)

    @property
    def missions(self) -> Path:
        return self.settings.home / "missions"

    def _save(self, status: MissionStatus) -> None:
        temporary = self.missions / f".{status.mission_id}"
        temporary.write_bytes(msgspec.json.encode(status))
        temporary.rename(self.missions / status.mission_id)

    def _load(self, mission_id: str) -> MissionStatus:
        try:
            return msgspec.json.decode((self.missions / mission_id).read_bytes(), type=MissionStatus)
        except FileNotFoundError:
            raise RequestFailed("mission_unknown", f"the image holds no mission {mission_id!r}") from None

    async def _submit(self, body: MissionSubmit, context: RequestContext) -> MissionAccepted:
        del context
        if body.weaver and body.weaver.upper() not in {"ROBIN", "BRICK", "BABS", "ALFRED"}:
            raise RequestFailed("persona_unknown", f"there is no persona {body.weaver!r}", "ask robin or brick")
        status = MissionStatus(
            mission_id=body.mission_id, text=body.text, state="RUNNING", weaver=body.weaver or "ROBIN",
            kernel=self.name, submitted_at=time.time(),
        )  # fmt: skip
        self._save(status)
        task = asyncio.create_task(self._think(status))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return MissionAccepted(mission_id=body.mission_id)

    async def _think(self, status: MissionStatus) -> None:
        mission = status.mission_id
        topic = f"mission/{mission}"
        label = PromptLabel(mission_id=mission, cycle_id="c" * 32, state="SYNTHESIZING", step="weave", persona="ROBIN")
        for state, persona in (("IDLE", "orchestrator"), ("SYNTHESIZING", "ROBIN")):
            entered = StateEntered(mission_id=mission, cycle_id=label.cycle_id, state=state, persona=persona)
            self.peer.publish(topic, entered)
        self.peer.publish(topic, FacetAsked(label=label))
        for word in WORDS:
            self.peer.publish(topic, TokenDelta(label=label, text=word))
            await asyncio.sleep(0.01)
        while "wait" in status.text and not (self.settings.home / "go-on").exists():  # noqa: ASYNC110 - a file is no event
            await asyncio.sleep(0.02)
        usage = Usage(prompt_tokens=9, completion_tokens=len(WORDS))
        self.peer.publish(topic, FacetAnswered(label=label, usage=usage, duration_ms=50))
        failed = "fail" in status.text
        ended = msgspec.structs.replace(
            status, state="FAILED" if failed else "COMPLETE", answer="" if failed else "".join(WORDS),
            error="told to fail" if failed else "", tid="" if failed else "03ff" * 4, personas=("BRICK", "ROBIN"),
            model="script", usage=usage, duration_ms=60, cycle_id=label.cycle_id,
        )  # fmt: skip
        self._save(ended)
        self.peer.publish(topic, MissionEnded(status=ended))

    async def _wait(self, body: MissionWait, context: RequestContext) -> MissionStatus:
        del context
        deadline = time.monotonic() + body.timeout_s
        while True:
            status = self._load(body.mission_id)
            if status.state in {"COMPLETE", "FAILED"} or time.monotonic() >= deadline:
                return status
            await asyncio.sleep(0.02)

    async def _list(self, body: MissionList, context: RequestContext) -> Missions:
        del context
        names = sorted((path.name for path in self.missions.glob("[!.]*")), reverse=True)[: body.limit]
        return Missions(missions=tuple(self._load(name) for name in names))

    async def _persona(self, body: PersonaGet, context: RequestContext) -> PersonaView:
        del context
        return PersonaView(
            name=body.persona.upper(), dna={"version": 1, "adapters": {}}, codex={}, pillars={"sage": "be wise"}
        )

    async def _engine(self, body: EngineDescribe, context: RequestContext) -> EngineDescription:
        del body, context
        return EngineDescription(engine="script", model="script", model_hash="0", context_tokens=100, slots=1)


if __name__ == "__main__":
    sys.exit(run(ScriptedKernel, VesselSettings))
