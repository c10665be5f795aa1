"""A Grafana dashboard as data: what is wrong with its structure, and its queries as Grafana would send them."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COLUMNS = 24
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
VESSEL_METRIC = re.compile(r"\b(?:batos|process)_[a-z0-9_]+")
LEGEND_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True)
class Query:
    """One target of one panel."""

    panel: str
    expression: str
    legend: str
    is_instant: bool

    @property
    def metrics(self) -> set[str]:
        """The vessels' metrics that it reads."""
        return set(VESSEL_METRIC.findall(STRING.sub('""', self.expression)))

    @property
    def legend_labels(self) -> set[str]:
        return set(LEGEND_LABEL.findall(self.legend))

    def __str__(self) -> str:
        return f"{self.panel}: {self.expression}"


def read(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text())
    assert isinstance(found, dict)
    return found


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Every panel that shows something, those of folded rows included."""
    shown = itertools.chain.from_iterable((panel, *panel.get("panels", ())) for panel in dashboard["panels"])
    return [panel for panel in shown if panel["type"] != "row"]


def queries(dashboard: dict[str, Any], scrape_interval_s: int) -> Iterator[Query]:
    """Every query with its variables replaced as Grafana replaces them while everything is selected.

    `$__rate_interval` is the longer one of four scrapes and a point's width and one scrape (Grafana's rule). A
    point's width is the panel's own least one; without one it is shorter than a scrape in a window of half an hour.
    """
    everything = {f"${variable['name']}": variable["allValue"] for variable in dashboard["templating"]["list"]}
    for panel in panels(dashboard):
        minutes = int(panel.get("interval", "0m").removesuffix("m"))
        rate_interval_s = max(60 * minutes + scrape_interval_s, 4 * scrape_interval_s)
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in {**everything, "$__rate_interval": f"{rate_interval_s}s"}.items():
                expression = expression.replace(name, value)
            assert "$" not in expression, f"a variable that nobody fills: {expression}"
            yield Query(panel["title"], expression, target["legendFormat"], bool(target["instant"]))


def faults(dashboard: dict[str, Any], datasource: str) -> list[str]:
    """What Grafana would not show as it is meant."""
    return [*_duplicates(dashboard), *_incomplete(dashboard, datasource), *_misplaced(dashboard)]


def _duplicates(dashboard: dict[str, Any]) -> Iterator[str]:
    ids = Counter(panel.get("id") for panel in dashboard["panels"])
    yield from (f"panel id {number} is there {count} times" for number, count in ids.items() if count > 1)
    if None in ids:
        yield "a panel without an id"
    titles = Counter(panel["title"] for panel in dashboard["panels"])
    yield from (f"title {title!r} is there {count} times" for title, count in titles.items() if count > 1)
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", dashboard.get("uid", "")):
        yield f"uid {dashboard.get('uid')!r} is none"


def _incomplete(dashboard: dict[str, Any], datasource: str) -> Iterator[str]:
    for panel in panels(dashboard):
        title = panel.get("title", "")
        named = {"title": title, "description": panel.get("description")}
        named["unit"] = panel.get("fieldConfig", {}).get("defaults", {}).get("unit")
        yield from (f"panel {panel.get('id')} {title!r} has no {what}" for what, value in named.items() if not value)
        targets = panel.get("targets", [])
        if not targets:
            yield f"{title!r} asks nothing"
        for holder in (panel, *targets):
            if holder.get("datasource") != {"type": "prometheus", "uid": datasource}:
                yield f"{title!r} asks {holder.get('datasource')}"
        letters = [target.get("refId") for target in targets]
        if len(set(letters)) != len(letters):
            yield f"{title!r} has two queries of one name: {letters}"
        yield from (f"{title!r} has a query without a legend" for target in targets if not target.get("legendFormat"))


def _misplaced(dashboard: dict[str, Any]) -> Iterator[str]:
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        if place["w"] < 1 or place["h"] < 1 or place["x"] < 0 or place["x"] + place["w"] > COLUMNS:
            yield f"{panel['title']!r} does not fit into the grid: {place}"
        cells = itertools.product(
            range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        )
        below = {taken[cell] for cell in cells if taken.setdefault(cell, panel["title"]) != panel["title"]}
        yield from (f"{panel['title']!r} lies on {other!r}" for other in sorted(below))
