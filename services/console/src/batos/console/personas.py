"""Personas as the image holds them."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from batos.console import past
from batos.console.fleet import Fleet
from batos.console.show import clean, persona_style
from batos.protocol import PersonaGet, PersonaView


async def look(fleet: Fleet, name: str, *, at: str = "", request_s: float) -> PersonaView:
    """Return a persona, as it is or was at a moment."""
    return await past.look(fleet, PersonaGet(persona=name, at=at), PersonaView, at=at, request_s=request_s)


def as_data(view: PersonaView) -> dict[str, Any]:
    """Return what `persona show --json` says, as programs rely on it."""
    return {
        "name": view.name,
        "dna": view.dna,
        "codex": view.codex,
        "pillars": view.pillars,
        "ancestor": view.ancestor or None,
        "as_of": view.as_of,
    }


def render(view: PersonaView) -> RenderableType:
    """Render a persona for people."""
    return Group(
        Text(clean(view.name), f"bold {persona_style(view.name)}"),
        Text(f"cloned from {clean(view.ancestor)}" if view.ancestor else "cloned from nobody", "dim"),
        Text("\ndna", "bold"),
        _rows(view.dna),
        Text("\ncodex", "bold"),
        _rows(view.codex),
        Text("\npillars", "bold"),
        _rows(view.pillars),
    )


def _rows(values: dict[str, Any]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in values.items():
        words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        table.add_row(Text(f"  {clean(name)}", "dim"), Text(clean(words), overflow="fold"))
    return table
