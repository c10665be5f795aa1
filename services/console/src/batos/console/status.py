"""How the fleet is: who is there, which model answers, what each persona has learned."""

from __future__ import annotations

import asyncio
import time
from typing import Any, TypeVar

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from batos.console.fleet import KIND, Fleet, roster
from batos.console.show import clean, persona_style
from batos.protocol import (
    EngineDescribe,
    EngineDescription,
    Message,
    PersonaGet,
    PersonaView,
    ProtocolError,
    Roster,
    VesselCard,
)

PERSONAS = ("ROBIN", "BRICK", "BABS", "ALFRED")
PATIENCE_S = 2.0
"""How long model and personas may take; the vessels are shown without them."""
_SHORT_ID = 8
_S_PER_MINUTE = 60
_S_PER_HOUR = 3600

M = TypeVar("M", bound=Message)


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What `batos status` knows. Engine and personas are missing where nobody could say."""

    roster: Roster
    engine: EngineDescription | None = None
    personas: tuple[PersonaView, ...] = ()


async def look(fleet: Fleet, request_s: float) -> Status:
    """Ask bus, engine and a kernel how they are."""
    asked = asyncio.gather(*(_if_answered(fleet, "kernel", PersonaGet(persona=name), PersonaView) for name in PERSONAS))
    described = asyncio.ensure_future(_if_answered(fleet, "inference", EngineDescribe(), EngineDescription))
    try:
        found = await roster(fleet, request_s)
        engine, personas = await described, await asked
    finally:
        asked.cancel()
        described.cancel()
        await asyncio.gather(asked, described, return_exceptions=True)
    return Status(roster=found, engine=engine, personas=tuple(view for view in personas if view is not None))


async def _if_answered(fleet: Fleet, service: str, body: Message, reply: type[M]) -> M | None:
    """Return the answer, or None where there is none: a fleet that is coming up or in trouble has a status too."""
    try:
        return await fleet.request(service, body, reply, timeout_s=PATIENCE_S)
    except ProtocolError:
        return None


def as_data(status: Status, now: float) -> dict[str, Any]:
    """Return what `status --json` says, as programs rely on it."""
    engine = status.engine
    return {
        "vessels": [_vessel(card, now) for card in shown(status.roster)],
        "engine": None
        if engine is None
        else {
            "engine": engine.engine,
            "model": engine.model,
            "model_hash": engine.model_hash,
            "context_tokens": engine.context_tokens,
            "slots": engine.slots,
            "adapters": list(engine.adapters),
        },
        "personas": [
            {
                "name": view.name,
                "dna_version": view.dna.get("version"),
                "adapter": bound(view, engine.model_hash if engine else ""),
                "inactive": inactive(view, engine.model_hash if engine else ""),
            }
            for view in status.personas
        ],
    }


def shown(found: Roster) -> list[VesselCard]:
    """Return the vessels without the consoles that look at them."""
    return [card for card in found.vessels if card.kind != KIND]


def _vessel(card: VesselCard, now: float) -> dict[str, Any]:
    return {
        "name": card.name,
        "kind": card.kind,
        "incarnation": card.incarnation,
        "pid": card.pid,
        "ready": card.ready,
        "reason": card.reason,
        "draining": card.draining,
        "notice": card.notice,
        "version": card.version,
        "uptime_s": round(max(0.0, now - card.started_at), 1),
        "metrics": card.metrics,
    }


def bound(view: PersonaView, model_hash: str) -> str:
    """Return the adapter that a persona answers with on this model; empty for the base."""
    return str(dict(view.dna.get("adapters") or {}).get(model_hash, ""))


def inactive(view: PersonaView, model_hash: str) -> list[str]:
    """Return the adapters that were learned on other models and rest."""
    adapters = dict(view.dna.get("adapters") or {})
    return sorted(str(name) for learned_on, name in adapters.items() if learned_on != model_hash and name)


def render(status: Status, now: float | None = None) -> RenderableType:
    """Render a status for people."""
    moment = time.time() if now is None else now
    vessels = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("vessel", "incarnation", "pid", "state", "version", "up", "metrics"):
        vessels.add_column(title, overflow="fold", no_wrap=title != "state")
    for card in shown(status.roster):
        vessels.add_row(
            Text(clean(card.name), "bold"),
            card.incarnation[-_SHORT_ID:],
            str(card.pid),
            _state(card),
            card.version,
            age(moment - card.started_at),
            Text(clean(card.metrics), "dim"),
        )
    return Group(vessels, Text(), _engine(status.engine), *_personas(status))


def _state(card: VesselCard) -> Text:
    if card.draining:
        return Text("draining", "yellow")
    if card.ready and card.notice:
        return Text(clean(f"ready, but {card.notice}"), "yellow")
    return Text("ready", "green") if card.ready else Text(clean(f"not ready: {card.reason}"), "red")


def _engine(engine: EngineDescription | None) -> Text:
    if engine is None:
        return Text("model     not known: persona-inference does not answer", "red")
    return Text(
        clean(f"model     {engine.model} ({engine.engine}, {engine.slots} slots of {engine.context_tokens} tokens)")
    )


def _personas(status: Status) -> list[Text]:
    if not status.personas:
        return [Text("personas  not known: no kernel answers", "red")]
    model_hash = status.engine.model_hash if status.engine else ""
    lines = []
    for view in status.personas:
        resting = inactive(view, model_hash)
        note = f"; learned on another model and resting: {', '.join(resting)}" if model_hash and resting else ""
        words = bound(view, model_hash) or "base model"
        lines.append(Text.assemble((f"{view.name:<10}", persona_style(view.name)), clean(words + note)))
    return lines


def age(seconds: float) -> str:
    """Return a duration in words of one unit or two."""
    whole = max(0, int(seconds))
    if whole < _S_PER_MINUTE:
        return f"{whole} s"
    if whole < _S_PER_HOUR:
        return f"{whole // _S_PER_MINUTE} min {whole % _S_PER_MINUTE} s"
    return f"{whole // _S_PER_HOUR} h {whole % _S_PER_HOUR // _S_PER_MINUTE} min"
