"""Tables for people."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from rich.table import Table
from rich.text import Text

from batos.console.forge import verdict
from batos.console.show import STATE_STYLES, clean, cut
from batos.console.thought import MS_PER_S
from batos.protocol import MissionStatus, OrderStatus

_TEXT_CHARACTERS = 60


def missions_table(missions: Iterable[MissionStatus]) -> Table:
    """Render missions, one a row."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("mission", "asked", "state", "weaver", "seconds", "text"):
        table.add_column(title, no_wrap=title != "text")
    for mission in missions:
        table.add_row(
            mission.mission_id,
            datetime.fromtimestamp(mission.submitted_at).astimezone().strftime("%m-%d %H:%M:%S"),
            Text(mission.state, STATE_STYLES.get(mission.state, "")),
            mission.weaver,
            f"{mission.duration_ms / MS_PER_S:.1f}" if mission.duration_ms else "",
            Text(cut(" ".join(clean(mission.text).split()), _TEXT_CHARACTERS)),
        )
    return table


def order_table(order: OrderStatus) -> Table:
    """Render a training order."""
    rows = {
        "order": order.order_id,
        "persona": order.persona,
        "data set": order.dataset_id,
        "state": order.state,
        "adapter": order.adapter or "-",
        "verdict": verdict(order),
    }
    if order.error:
        rows["error"] = order.error
    table = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        table.add_row(Text(name, "dim"), Text(clean(value), STATE_STYLES.get(value, ""), overflow="fold"))
    return table
