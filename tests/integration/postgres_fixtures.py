"""A PostgreSQL server of a test module's own, with an empty database for each test, and images in it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from integration.postgres_server import PASSWORD, Server, postgres_server

from batos.uvm import Image, open_image

DATABASE = "living_image"


@pytest.fixture(scope="module")
def postgres_cluster() -> Iterator[Server]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres(postgres_cluster: Server) -> Iterator[Server]:
    """With an empty database, and nobody connected to it afterwards."""
    if not postgres_cluster.pid():
        postgres_cluster.start()
    postgres_cluster.database(DATABASE)
    try:
        yield postgres_cluster
        if not postgres_cluster.pid():
            postgres_cluster.start()
        assert soon_without_sessions(postgres_cluster), postgres_cluster.sql("SELECT * FROM pg_stat_activity")
    finally:
        postgres_cluster.sql(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")


@pytest.fixture
def postgres_uri(postgres: Server) -> str:
    return postgres.uri(DATABASE, "?wait_timeout=10")


@pytest.fixture
def postgres_pair(postgres_uri: str) -> Iterator[tuple[Image, Image]]:
    with open_image(postgres_uri) as first, open_image(postgres_uri) as second:
        yield first, second


def soon_without_sessions(server: Server) -> bool:
    deadline = time.monotonic() + 10
    while server.sessions(DATABASE):
        if time.monotonic() > deadline:
            return False
    return True


def must_hide_password(text: str, password: str = PASSWORD) -> None:
    for part in password.split():
        assert len(part) < 3 or part not in text, f"{part} in {text}"
