"""The three pages, asked as a WSGI application."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter

from batos.vessel import HealthPages, HealthState


def ask(state: HealthState, path: str, method: str = "GET") -> tuple[str, str]:
    registry = CollectorRegistry()
    Counter("batos_toy_things", "Things", registry=registry).inc(3)
    pages = HealthPages(registry, lambda: state)
    said: list[str] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        del headers, exc_info
        said.append(status)

    environ = {"PATH_INFO": path, "REQUEST_METHOD": method, "QUERY_STRING": ""}
    body = b"".join(pages(environ, start_response))
    return said[0], body.decode()


WELL = HealthState(alive=True, ready=True)
STARTING = HealthState(alive=True, ready=False, reason="waiting for the image")
STUCK = HealthState(alive=False, ready=True, reason="the event loop has not turned for 31 s")


def test_metrics() -> None:
    """/metrics shows the vessel's registry."""
    status, body = ask(STARTING, "/metrics")
    assert status.startswith("200")
    assert "batos_toy_things_total 3.0" in body


def test_ready() -> None:
    """/readyz says 200 when ready, else 503 and why."""
    assert ask(WELL, "/readyz") == ("200 OK", "ready\n")
    noticed = HealthState(alive=True, ready=True, reason="the disk is full")
    assert ask(noticed, "/readyz") == ("200 OK", "ready, but the disk is full\n")
    assert ask(noticed, "/healthz")[0] == "200 OK"
    assert ask(STARTING, "/readyz") == ("503 Service Unavailable", "not ready: waiting for the image\n")
    assert ask(STUCK, "/readyz")[0].startswith("503")


def test_alive() -> None:
    """/healthz says 200 as long as the event loop turns, ready or not."""
    assert ask(WELL, "/healthz") == ("200 OK", "alive\n")
    assert ask(STARTING, "/healthz") == ("200 OK", "alive\n")
    status, body = ask(STUCK, "/healthz")
    assert status.startswith("503")
    assert "has not turned" in body


def test_other_pages_and_methods() -> None:
    """Any other page is 404 and names those that there are; nothing can be written."""
    status, body = ask(WELL, "/")
    assert status.startswith("404")
    assert "/readyz" in body
    assert ask(WELL, "/metrics", "POST")[0].startswith("405")
