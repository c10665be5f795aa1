"""A child's words in its file: kept within bounds, its own last ones found again. Nothing is started."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from batos.supervisor.child import Child, _open_log


def child(log: Path, start: int) -> Child:
    return Child("toy-1", cast("Any", SimpleNamespace(pid=7)), log, start)


def test_last_words(tmp_path: Path) -> None:
    """The last lines since its start, without empty ones; what a predecessor wrote is not its own."""
    log = tmp_path / "toy-1.log"
    log.write_text("old\n" * 3 + "one\n\ntwo\n")
    assert child(log, 12).last_words() == ["one", "two"]
    with log.open("a") as file:
        file.write("more\n" * 5000 + "the end\n")
    assert child(log, 12).last_words() == ["more"] * 4 + ["the end"]


def test_no_words(tmp_path: Path) -> None:
    """A child that wrote nothing, or whose file was put aside, has no last words."""
    log = tmp_path / "toy-1.log"
    log.write_text("")
    assert child(log, 0).last_words() == []
    assert child(log, 500).last_words() == []


def test_a_file_that_has_grown_is_put_aside(tmp_path: Path) -> None:
    """At a start a file over its bound becomes .1 and a new one begins; a smaller one is continued."""
    log = tmp_path / "log" / "toy-1.log"
    for text in ("a" * 50, "b" * 60, "c"):
        descriptor = _open_log(log, 100)
        os.write(descriptor, text.encode())
        os.close(descriptor)
    assert log.read_text() == "c"
    assert log.with_name("toy-1.log.1").read_text() == "a" * 50 + "b" * 60
    assert log.stat().st_mode & 0o777 == 0o600
