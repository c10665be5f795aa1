"""What an operator sees: the shipped Prometheus configuration and dashboard against a real fleet and a real Prometheus.

Grafana itself is not run: its dashboard is looked at as data, and its queries go to Prometheus as it would send them.
"""

from __future__ import annotations

import copy
import json
import math
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from containers import dashboards
from containers.prometheus_server import Prometheus, serving
from local_fleet import CHECKOUT, Fleet, running, wait_for

SHIPPED = CHECKOUT / "deploy" / "observability"
CONFIG = SHIPPED / "prometheus.yml"
DASHBOARD = SHIPPED / "grafana" / "dashboards" / "batos.json"
PROVISIONING = SHIPPED / "grafana" / "provisioning"
KINDS = {
    "image": "image",
    "bus": "bus",
    "kernel-1": "kernel",
    "kernel-2": "kernel",
    "inference": "inference",
    "curator": "curator",
    "forge": "forge",
    "supervisor": "supervisor",
}
"""Every vessel of the Compose fleet and its kind."""

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: apt install prometheus)"
)
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not installed (Debian: apt install prometheus)"
)


def on_a_fleet(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that starts a whole fleet with the embedded model."""
    return pytest.mark.model(pytest.mark.timeout(600)(test))


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    found = yaml.safe_load(CONFIG.read_text())
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def scrape_interval_s(config: dict[str, Any]) -> int:
    return int(config["global"]["scrape_interval"].removesuffix("s"))


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    return dashboards.read(DASHBOARD)


@pytest.fixture(scope="module")
def datasource() -> dict[str, Any]:
    found = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yaml").read_text())
    (source,) = found["datasources"]
    assert isinstance(source, dict)
    return source


@pytest.fixture(scope="module")
def queries(dashboard: dict[str, Any], scrape_interval_s: int) -> list[dashboards.Query]:
    return list(dashboards.queries(dashboard, scrape_interval_s))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with running(Fleet(tmp_path_factory.mktemp("home") / "var")) as found:
        yield found


def on_this_machine(shipped: str, vessels: dict[str, dict[str, Any]]) -> str:
    """The shipped configuration for a fleet of local processes: `<vessel>:9100` becomes where that vessel's page is.

    Nothing else changes: the text outside of those addresses stays as it is.
    """
    for name in KINDS:
        page = urlsplit(vessels[name]["metrics"]).netloc
        shipped, count = re.subn(rf'(?<="){re.escape(name)}:9100(?=")', page, shipped)
        assert count == 1, f"{name}: {count} targets"
    assert ':9100"' not in shipped
    return shipped


@pytest.fixture(scope="module")
def prometheus(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that watched the fleet from before its first missions were asked until they were answered."""
    folder = tmp_path_factory.mktemp("prometheus")
    local = folder / "prometheus.yml"
    local.write_text(on_this_machine(CONFIG.read_text(), fleet.vessels()))
    with serving(local, folder) as found:
        wait_for(
            "every target to be up",
            lambda: len(targets := found.targets()) == len(KINDS) and all(t["health"] == "up" for t in targets),
        )
        missions = (CHECKOUT / "tests" / "missions.txt").read_text().splitlines()
        thoughts = fleet.ask_many(missions[:3])
        assert any(thought["outcome"] == "COMPLETE" for thought in thoughts), thoughts
        yield found


@needs_promtool
def test_prometheus_takes_the_configuration() -> None:
    """`promtool check config` finds no fault."""
    checked = subprocess.run(
        ["promtool", "check", "config", str(CONFIG)], capture_output=True, text=True, timeout=30, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_vessel_is_scraped(config: dict[str, Any], scrape_interval_s: int) -> None:
    """Every vessel of the Compose fleet is a target on port 9100, under its kind and its name; 5 to 15 s apart."""
    found = {
        (job["job_name"], one["labels"]["vessel"], target)
        for job in config["scrape_configs"]
        for one in job["static_configs"]
        for target in one["targets"]
    }
    assert found == {(kind, name, f"{name}:9100") for name, kind in KINDS.items()}
    assert 5 <= scrape_interval_s <= 15


def test_dashboard_is_what_its_generator_makes(tmp_path: Path) -> None:
    """The committed dashboard is the generator's, byte for byte."""
    made = tmp_path / "batos.json"
    subprocess.run([sys.executable, str(SHIPPED / "dashboard.py"), str(made)], timeout=60, check=True)
    assert made.read_bytes() == DASHBOARD.read_bytes(), "make it again: python deploy/observability/dashboard.py"


def test_dashboard_is_whole(dashboard: dict[str, Any], datasource: dict[str, Any]) -> None:
    """Every panel has a title, words, a unit, queries and its own place; ids are unique, the datasource is ours."""
    assert len(dashboards.panels(dashboard)) > 20
    assert dashboards.faults(dashboard, datasource["uid"]) == []


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda panels: panels[1].update(id=panels[2]["id"]), "is there 2 times"),
        (lambda panels: panels[1].update(title=""), "has no title"),
        (lambda panels: panels[1]["fieldConfig"]["defaults"].pop("unit"), "has no unit"),
        (lambda panels: panels[1].update(targets=[]), "asks nothing"),
        (lambda panels: panels[1]["targets"][0]["datasource"].update(uid="other"), "asks {"),
        (lambda panels: panels[2]["gridPos"].update(panels[1]["gridPos"]), "lies on"),
        (lambda panels: panels[1]["gridPos"].update(x=22), "does not fit"),
    ],
)
def test_harm_to_a_dashboard_is_seen(
    dashboard: dict[str, Any], datasource: dict[str, Any], harm: Callable[[list[dict[str, Any]]], object], words: str
) -> None:
    """The look at the structure finds what it is there to find."""
    broken = copy.deepcopy(dashboard)
    harm(broken["panels"])
    assert any(words in fault for fault in dashboards.faults(broken, datasource["uid"]))


def test_grafana_is_given_its_datasource_and_its_dashboard(
    datasource: dict[str, Any], dashboard: dict[str, Any], scrape_interval_s: int
) -> None:
    """The provisioned datasource is Compose's Prometheus at its scrape interval; the dashboards' folder is named."""
    assert datasource["type"] == "prometheus"
    assert datasource["url"] == "http://prometheus:9090"
    assert datasource["jsonData"]["timeInterval"] == f"{scrape_interval_s}s"
    (variable,) = dashboard["templating"]["list"]
    assert variable["datasource"]["uid"] == datasource["uid"]
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards" / "batos.yaml").read_text())["providers"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"


@needs_promtool
def test_expressions_are_promql(queries: list[dashboards.Query], tmp_path: Path) -> None:
    """Prometheus's own parser takes every expression."""
    rules = [{"record": f"dashboard:{number}", "expr": query.expression} for number, query in enumerate(queries)]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = subprocess.run(
        ["promtool", "check", "rules", str(file)], capture_output=True, text=True, timeout=30, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(queries)} rules found" in checked.stdout


@needs_promtool
def test_a_vessel_that_cannot_be_reached_is_not_ready(queries: list[dashboards.Query], tmp_path: Path) -> None:
    """Readiness tells who is ready, who says that it is not, and who says nothing any more."""
    (readiness,) = [query.expression for query in queries if query.panel == "Readiness of each vessel"]
    (count,) = [query.expression for query in queries if query.panel == "Not ready"]
    series = {
        'up{vessel="bus"}': "1 1",
        'batos_vessel_ready{vessel="bus"}': "1 1",
        'up{vessel="forge"}': "1 1",
        'batos_vessel_ready{vessel="forge"}': "1 0",
        'up{vessel="curator"}': "1 0",
        'batos_vessel_ready{vessel="curator"}': "1 stale",
    }
    shown = {'batos_vessel_ready{vessel="bus"}': 1, 'batos_vessel_ready{vessel="forge"}': 0, '{vessel="curator"}': 0}
    expected = {readiness: shown, count: {"{}": 2}}
    story = {
        "interval": "5s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": expression,
                "eval_time": "5s",
                "exp_samples": [{"labels": labels, "value": value} for labels, value in samples.items()],
            }
            for expression, samples in expected.items()
        ],
    }
    file = tmp_path / "story.yml"
    file.write_text(json.dumps({"evaluation_interval": "5s", "tests": [story]}))
    told = subprocess.run(
        ["promtool", "test", "rules", str(file)], capture_output=True, text=True, timeout=30, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr


@on_a_fleet
def test_expressions_name_what_vessels_serve(queries: list[dashboards.Query], fleet: Fleet) -> None:
    """Every metric that an expression reads is declared on the /metrics page of a vessel."""
    served = set()
    for vessel in fleet.vessels().values():
        if vessel["name"] in KINDS:
            with urllib.request.urlopen(vessel["metrics"], timeout=5) as page:
                declared = re.findall(r"^# TYPE (\S+) (\S+)$", page.read().decode(), re.MULTILINE)
            for name, kind in declared:
                served |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"} if kind == "histogram" else {name}
    assert served
    for query in queries:
        assert query.metrics, f"reads no vessel: {query}"
        assert query.metrics <= served, query


@needs_prometheus
@on_a_fleet
def test_every_target_is_up(prometheus: Prometheus) -> None:
    """Prometheus reads every vessel, and its labels are what the vessel says about itself."""
    targets = prometheus.targets()
    assert {(t["labels"]["vessel"], t["labels"]["job"], t["health"]) for t in targets} == {
        (name, kind, "up") for name, kind in KINDS.items()
    }
    said = prometheus.now("batos_vessel_info")
    assert len(said) == len(KINDS)
    for labels, _ in said:
        assert (labels["vessel"], labels["job"]) == (labels["name"], labels["kind"])
    assert set(prometheus.ask("label/vessel/values")) == set(KINDS)


@needs_prometheus
@on_a_fleet
def test_every_expression_returns_data(
    prometheus: Prometheus, queries: list[dashboards.Query], scrape_interval_s: int
) -> None:
    """After some missions every query of the dashboard has numbers to show, with the labels that its legend names."""
    since = float(prometheus.now("min(process_start_time_seconds)")[0][1][0])

    def shown(query: dashboards.Query) -> bool:
        if query.is_instant:
            found = prometheus.now(query.expression)
        else:
            found = prometheus.over(query.expression, since, time.time(), scrape_interval_s)
        for labels, _ in found:
            assert query.legend_labels <= set(labels), f"{query}: its legend names {query.legend_labels}"
        return any(not math.isnan(value) for _, values in found for value in values)

    waiting = list(queries)

    def all_shown() -> bool:
        waiting[:] = [query for query in waiting if not shown(query)]
        return not waiting

    try:
        wait_for("every expression to return data", all_shown, timeout=60)
    except AssertionError as failed:
        raise AssertionError(f"{failed}: " + "\n".join(map(str, waiting))) from None


@needs_prometheus
@on_a_fleet
def test_figures_are_the_fleets(prometheus: Prometheus, fleet: Fleet) -> None:
    """What the dashboard counts is what happened: as many COMPLETE missions as the image knows."""
    counted = 'sum(batos_kernel_missions_total{outcome="COMPLETE"})'

    def agree() -> bool:
        known = fleet.json("mission", "list", "--limit", "200")["missions"]
        complete = sum(mission["state"] == "COMPLETE" for mission in known)
        return complete > 0 and [values for _, values in prometheus.now(counted)] == [[complete]]

    wait_for("Prometheus to count the COMPLETE missions of the image", agree, timeout=30)
