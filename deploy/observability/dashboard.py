"""Make grafana/dashboards/batos.json: one dashboard for whoever keeps a fleet running.

    .venv/bin/python deploy/observability/dashboard.py [FILE]

Every figure is one that the vessels serve on /metrics. Every expression returns something on a healthy fleet, also
before anything failed, queued or was trained: tests ask a real Prometheus.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models
from panels import DATASOURCE, Panel, figure, graph, increase, or_zero, quantile, quantiles, rate, states

PATH = Path(__file__).parent / "grafana" / "dashboards" / "batos.json"

Row: TypeAlias = tuple[str, Sequence[Panel]]
"""A heading and what stands below it, from left to right."""

READY = 'batos_vessel_ready or up{vessel!=""} * 0'
"""A vessel that cannot be reached says nothing about itself: Prometheus's own `up` says it then."""

FLEET: Row = (
    "Fleet",
    [
        figure(
            "Not ready",
            "none",
            ("vessels", or_zero(f"count(({READY}) == 0)")),
            says="Vessels that cannot do their work now, unreachable ones included.",
            red_from=1,
        ),
        figure(
            "Missions that wait",
            "none",
            ("missions", "max(batos_kernel_waiting_missions)"),
            says="Missions that no kernel runs yet.",
        ),
        figure(
            "Engine lost, last hour",
            "none",
            ("times", f"round({increase('batos_inference_engine_losses_total', '1h')})"),
            says="Times that a running engine died or hung and was started again.",
            red_from=1,
        ),
        figure(
            "Logs not written",
            "none",
            ("kernels", "sum(batos_kernel_log_faulty)"),
            says="Kernels that cannot write their metacognition log: look at their disks.",
            red_from=1,
        ),
        figure(
            "Started again, last hour",
            "none",
            ("vessels", 'sum(changes(process_start_time_seconds{vessel!=""}[1h]))'),
            says="Processes that took the place of another one: rolls, updates, and what fell over.",
        ),
        figure(
            "Rolls at work",
            "none",
            ("rolls", "sum(batos_supervisor_rolling)"),
            says="1 while the supervisor replaces planks of the fleet.",
        ),
        states(
            "Readiness of each vessel",
            ("{{vessel}}", READY),
            says="Whether a vessel can do its work: it says so itself; one that cannot be scraped is not ready.",
            no="not ready",
            yes="ready",
        ),
    ],
)

MISSIONS: Row = (
    "Missions",
    [
        figure(
            "Ended, by outcome",
            "none",
            ("{{outcome}}", or_zero("sum by (outcome) (batos_kernel_missions_total)", "outcome")),
            says="Missions that ended on the kernels that run now, since each of them started.",
            width=24,
        ),
        graph(
            "Missions a minute",
            "cpm",
            ("accepted", or_zero(f"60 * {rate('batos_kernel_missions_accepted_total')}")),
            ("{{outcome}}", or_zero(f"60 * {rate('batos_kernel_missions_total', 'outcome')}", "outcome")),
            says="What came in and how it ended. A kernel's first of an outcome shows above only.",
            seldom=True,
        ),
        graph(
            "Duration of a cycle",
            "s",
            *quantiles("batos_kernel_cycle_duration_seconds"),
            says="From a kernel's claim of a mission to its outcome.",
            seldom=True,
        ),
        graph(
            "Missions at work",
            "none",
            ("running on {{vessel}}", "sum by (vessel) (batos_kernel_running_cycles)"),
            ("waiting for a kernel", "max(batos_kernel_waiting_missions)"),
            says="Waiting that grows while kernels run: the engine is the limit, or more kernels are needed.",
        ),
        graph(
            "Taken over and given back",
            "none",
            ("adopted", increase("batos_kernel_missions_adopted_total")),
            (
                "given back: {{reason}}",
                or_zero(increase("batos_kernel_missions_released_total", by="reason"), "reason"),
            ),
            says="Adopted: a kernel was lost, another one goes on. Given back: unfinished, as a kernel had to end.",
            width=12,
            seldom=True,
        ),
        graph(
            "Log records a second",
            "cps",
            ("{{event_type}}", rate("batos_kernel_log_records_total", "event_type")),
            says="What the kernels write into the metacognition log, by type.",
            width=12,
            stacked=True,
        ),
        graph(
            "Methods of cycles that were stopped",
            "none",
            ("{{rule}}", or_zero(f"({increase('batos_kernel_methods_stopped_total', by='rule')} > 0)", "rule")),
            says="What the mind wrote itself and the sandbox stopped, by rule; the log says who, what and where.",
            width=24,
            seldom=True,
        ),
    ],
)

ENGINE: Row = (
    "Engine",
    [
        graph(
            "Tokens a second",
            "cps",
            ("{{kind}}", rate("batos_inference_tokens_total", "kind")),
            says="Tokens read (prompt) and written (completion), by the engine's count.",
        ),
        graph(
            "Requests in the engine",
            "none",
            ("waiting for a slot", "sum(batos_inference_queue_requests)"),
            ("being decoded", "sum(batos_inference_running_requests)"),
            says="Where some wait for long, all slots are taken.",
        ),
        graph(
            "Time to an answer and to the first text",
            "s",
            *quantiles("batos_kernel_prompt_duration_seconds"),
            ("first text p95", quantile(0.95, "batos_inference_first_text_seconds")),
            says="Prompt to answer as a kernel waits for it; first text from the start of decoding.",
            seldom=True,
        ),
        graph(
            "Prompts a second",
            "cps",
            ("{{result}}", rate("batos_kernel_prompts_total", "result")),
            says="Prompts that kernels asked, by result.",
        ),
        graph(
            "Requests by adapter",
            "cps",
            ("{{adapter}}", rate("batos_inference_requests_total", "adapter")),
            says="Which weights answer: `base`, or an adapter by its hashed name.",
            stacked=True,
        ),
        graph(
            "Engine up, adapters loaded",
            "none",
            ("engine of {{vessel}} up", "min by (vessel) (batos_inference_engine_up)"),
            ("adapters loaded on {{vessel}}", "sum by (vessel) (batos_inference_loaded_adapters)"),
            says="The engine is 1 while it answers.",
        ),
    ],
)

BUS: Row = (
    "Bus",
    [
        graph(
            "Requests a second, by service",
            "reqps",
            ("{{service}}", rate("batos_bus_requests_total", "service")),
            says="Requests that ended, well or not, by the service that was asked.",
        ),
        graph(
            "Requests in flight and in queues",
            "none",
            ("in flight: {{channel}}", "sum by (channel) (batos_bus_in_flight)"),
            ("queued: {{service}}", or_zero("sum by (service) (batos_bus_queue_length)", "service")),
            ("peers", 'sum(batos_bus_peers{channel="work"})'),
            says="A queue means that no vessel of that service is free.",
        ),
        graph(
            "Failed, sent again, lost",
            "cps",
            (
                "request {{outcome}}",
                or_zero(rate('batos_bus_requests_total{outcome!="replied"}', "outcome"), "outcome"),
            ),
            ("request sent again", rate("batos_peer_resent_total")),
            ("request timed out", rate("batos_peer_timeouts_total")),
            ("event dropped", rate("batos_peer_events_dropped_total")),
            ("event missed", rate("batos_peer_events_missed_total")),
            ("undecodable", f"{rate('batos_bus_undecodable_total')} + {rate('batos_peer_undecodable_total')}"),
            ("key refused", rate("batos_bus_refused_keys_total")),
            says="Zero on a quiet fleet; some under load or in a roll. A refused key: somebody without one knocks.",
        ),
    ],
)

IMAGE: Row = (
    "Image",
    [
        graph(
            "Transactions a second",
            "cps",
            ("committed", rate("batos_image_commits_total")),
            ("refused by a conflict", rate("batos_image_conflicts_total")),
            ("aborted", rate("batos_image_aborts_total")),
            ("refused by a full disk", rate("batos_image_commits_refused_total")),
            says="Conflicts are tried again by who committed; many of them mean that vessels write the same objects.",
        ),
        graph(
            "Clients and waiting commits",
            "none",
            ("clients", "sum(batos_image_clients)"),
            ("commits that wait", "sum(batos_image_commits_waiting)"),
            says="Commits that wait for long: the disk is slow, or the one before does not end.",
        ),
        graph(
            "Size",
            "bytes",
            ("objects", "sum(batos_image_size_bytes)"),
            ("blobs", "sum(batos_image_blob_size_bytes)"),
            says="live_image.fs and all blobs. What grows without end wants a pack.",
        ),
    ],
)

LEARNING: Row = (
    "Memory and learning",
    [
        graph(
            "Log taken into memory",
            "cps",
            ("records", rate("batos_curator_records_total")),
            ("missing", rate("batos_curator_missing_records_total")),
            ("undecodable", rate("batos_curator_undecodable_lines_total")),
            says="What the curator reads of the kernels' logs. Missing and undecodable ones are holes in memory.",
            width=6,
        ),
        graph(
            "Age of memory",
            "s",
            ("since all logs were read", "time() - max(batos_curator_ingested_timestamp_seconds)"),
            says="Seconds since the curator last stood at the ends of all logs.",
            width=6,
        ),
        graph(
            "Training orders",
            "none",
            ("{{state}}", "sum by (state) (batos_forge_orders)"),
            ("at work", "sum(batos_forge_training)"),
            says="Orders in the image by state. PASSED ones wait for the Architect's approval.",
            width=6,
        ),
        graph(
            "Losses",
            "none",
            ("{{of}}", or_zero("max by (of) (batos_forge_loss)", "of")),
            says="Of the last training step; of base and candidate on held-out thoughts. `none` before any.",
            width=6,
        ),
    ],
)

PROCESSES: Row = (
    "Processes",
    [
        graph(
            "Resident memory",
            "bytes",
            ("{{vessel}}", 'process_resident_memory_bytes{vessel=~"$vessel"}'),
            says="The vessel's own process. An engine or a training program is a process of its own and is not in it.",
        ),
        graph(
            "Processor",
            "percentunit",
            ("{{vessel}}", 'rate(process_cpu_seconds_total{vessel=~"$vessel"}[$__rate_interval])'),
            says="Of one core; the vessel's own process.",
        ),
        graph(
            "Open files",
            "percentunit",
            ("{{vessel}}", 'process_open_fds{vessel=~"$vessel"} / process_max_fds{vessel=~"$vessel"}'),
            says="Of what the system allows the process, sockets included.",
        ),
    ],
)

ROWS = (FLEET, MISSIONS, ENGINE, BUS, IMAGE, LEARNING, PROCESSES)


def make() -> models.Dashboard:
    """Return the whole dashboard."""
    vessel = (
        dashboards.QueryVariable("vessel")
        .label("Processes of")
        .datasource(DATASOURCE)
        .query('label_values(up{vessel!=""}, vessel)')
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(models.VariableOption(selected=True, text="All", value="$__all"))
    )
    dashboard = (
        dashboards.Dashboard("BAT OS")
        .uid("batos-fleet")
        .description("The fleet: who is ready, what it thinks, what stands in the way. Made by dashboard.py.")
        .tags(["batos"])
        .readonly()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .time("now-30m", "now")
        .refresh("10s")
        .with_variable(vessel)
    )
    numbers = itertools.count(1)
    for title, panels in ROWS:
        dashboard.with_row(dashboards.Row(title).id(next(numbers)))
        for panel in panels:
            dashboard.with_panel(panel.id(next(numbers)).datasource(DATASOURCE))
    return dashboard.build()


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the dashboard and say where."""
    parser = argparse.ArgumentParser(description="Make the Grafana dashboard of the fleet.")
    parser.add_argument("file", nargs="?", type=Path, default=PATH, help="where to write it (default: %(default)s)")
    file: Path = parser.parse_args(arguments).file
    file.write_text(json.dumps(make(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{file}: {sum(len(panels) for _, panels in ROWS)} panels")
    return 0


if __name__ == "__main__":
    sys.exit(main())
