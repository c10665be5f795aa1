"""How the dashboard's expressions and panels are made, so that they all look and count alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from grafana_foundation_sdk.builders import common as options
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models

DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="batos-prometheus")
"""As grafana/provisioning/datasources/prometheus.yaml has it."""
QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))

Line: TypeAlias = tuple[str, str]
"""Legend and expression."""
Panel: TypeAlias = timeseries.Panel | stat.Panel | statetimeline.Panel


def rate(counter: str, by: str = "") -> str:
    """Return what a counter grows by in a second, over all vessels or by a label."""
    return f"sum{f' by ({by})' if by else ''} (rate({counter}[$__rate_interval]))"


def increase(counter: str, window: str = "$__rate_interval", *, by: str = "") -> str:
    """Return what a counter grew by within a window."""
    return f"sum{f' by ({by})' if by else ''} (increase({counter}[{window}]))"


def quantile(share: float, histogram: str) -> str:
    """Return the value below which a share of a histogram's observations lies."""
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', 'le')})"


def quantiles(histogram: str) -> list[Line]:
    """Return the lines of a histogram's usual quantiles."""
    return [(name, quantile(share, histogram)) for name, share in QUANTILES]


def or_zero(expression: str, label: str = "") -> str:
    """Return an expression that is 0, with its label `none`, where nothing was counted yet."""
    zero = f'label_replace(vector(0), "{label}", "none", "", "")' if label else "vector(0)"
    return f"{expression} or on() {zero}"


def queries(lines: Iterable[Line]) -> list[prometheus.Dataquery]:
    """Return the queries of a panel, named A, B, C…."""
    return [
        prometheus.Dataquery()
        .ref_id(chr(ord("A") + number))
        .datasource(DATASOURCE)
        .expr(expression)
        .legend_format(legend)
        for number, (legend, expression) in enumerate(lines)
    ]


def graph(
    title: str,
    unit: str,
    *lines: Line,
    says: str,
    width: int = 8,
    stacked: bool = False,
    seldom: bool = False,
) -> timeseries.Panel:
    """Return a panel with lines over time.

    Args:
        title: its heading.
        unit: in Grafana's words.
        lines: what it shows.
        says: what that is and when to worry.
        width: of the grid's 24 columns.
        stacked: one line on top of the other.
        seldom: what it counts happens seldom: a point covers a minute at least, and gaps are bridged.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(says)
        .unit(unit)
        .min(0)
        .span(width)
        .height(7)
        .fill_opacity(10)
        .legend(options.VizLegendOptions().show_legend(True).display_mode(common.LegendDisplayMode.LIST))
        .tooltip(options.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    )
    if stacked:
        panel.stacking(options.StackingConfig().mode(common.StackingMode.NORMAL))
    if seldom:
        panel.interval("1m").span_nulls(True)
    for query in queries(lines):
        panel.with_target(query.range())
    return panel


def figure(
    title: str, unit: str, line: Line, *, says: str, width: int = 4, red_from: float | None = None
) -> stat.Panel:
    """Return a panel with present values in large.

    Args:
        title: its heading.
        unit: in Grafana's words.
        line: what it shows.
        says: what that is.
        width: of the grid's 24 columns.
        red_from: the value from which on it is red.
    """
    steps = [models.Threshold(value=None, color="green" if red_from is not None else "text")]
    if red_from is not None:
        steps.append(models.Threshold(value=red_from, color="red"))
    panel = (
        stat.Panel()
        .title(title)
        .description(says)
        .unit(unit)
        .span(width)
        .height(4)
        .thresholds(dashboards.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
    )
    for query in queries([line]):
        panel.with_target(query.instant())
    return panel


def states(title: str, line: Line, *, says: str, no: str, yes: str) -> statetimeline.Panel:
    """Return a panel with a bar for each series, red where it is 0 and green where it is 1."""
    words = {
        "0": models.ValueMappingResult(text=no, color="red", index=0),
        "1": models.ValueMappingResult(text=yes, color="green", index=1),
    }
    panel = (
        statetimeline.Panel()
        .title(title)
        .description(says)
        .unit("bool")
        .span(24)
        .height(8)
        .mappings([models.ValueMap(options=words)])
        .show_value(common.VisibilityMode.NEVER)
        .legend(options.VizLegendOptions().show_legend(False))
    )
    for query in queries([line]):
        panel.with_target(query.range())
    return panel
