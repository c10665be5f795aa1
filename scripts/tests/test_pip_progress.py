from __future__ import annotations

import io

import pytest
from pip_progress import Display, PipProgress, normalised, why_it_failed


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def fed(*lines: str, total: int = 0) -> PipProgress:
    progress = PipProgress(total=total)
    for line in lines:
        progress.feed(line)
    return progress


def test_counts_packages_and_bytes() -> None:
    """A download says which package, how many of all, and how many MB of how many."""
    progress = fed(
        "Collecting msgspec==0.22.0 (from -r core.txt (line 3))\n",
        "Processing /wheels/httpx-0.28.1-py3-none-any.whl (from -r core.txt (line 4))\n",
        "Collecting torch==2.13.0 (from -r forge.txt (line 40))\n",
        "  Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (191.8 MB)\n",
        "Progress 45000000 of 191800000\n",
        total=56,
    )
    assert (
        progress.text()
        == "3 of 56 packages, downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl, 45 of 192 MB"
    )


def test_metadata_and_extras_are_no_new_packages() -> None:
    """What pip says twice about one package counts once."""
    progress = fed(
        "Collecting fastapi[standard]==0.136.3\n",
        "  Downloading fastapi-0.136.3-py3-none-any.whl.metadata (25 kB)\n",
        "Requirement already satisfied: fastapi==0.136.3 in ./lib (0.136.3)\n",
        total=4,
    )
    assert progress.seen == {"fastapi"}


def test_installing_names_the_one_at_work() -> None:
    """While pip copies files and is silent, the folders that appear tell how far it is."""
    here = {"zodb"}
    progress = PipProgress(installed=lambda: here)
    assert not progress.began_installing
    progress.feed("Installing collected packages: ZODB, zc.lockfile, torch\n")
    assert progress.began_installing
    assert progress.text() == "installing 1 of 3, now zc.lockfile"
    here |= {"zc-lockfile", "torch"}
    assert progress.text() == "installing 3 of 3"


def test_building_and_retrying_are_said() -> None:
    """A build from source and an index that does not answer are named."""
    assert fed("  Building wheel for aiologger (pyproject.toml): started\n").text() == "building aiologger"
    retrying = fed("WARNING: Retrying (Retry(total=3, connect=None)) after connection broken by 'X'\n")
    assert retrying.text() == "the package index does not answer, 3 more tries"


def test_noise_changes_nothing() -> None:
    """Warnings about places that pip was told to look in and that do not exist are not shown."""
    progress = fed("Collecting rich==15.0.0\n", "WARNING: Location 'file:///x/rich/' is ignored: it is neither\n")
    assert progress.text() == "looking at rich 15.0.0"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            ["WARNING: Retrying", "Failed to establish a new connection: [Errno 111] Connection refused"],
            "cannot be reached",
        ),
        (["ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"], "disk is full"),
        (["ERROR: No matching distribution found for xllamacpp==1"], "no package xllamacpp==1"),
        (["ERROR: something else", "and more"], "ERROR: something else"),
        (["nothing of use"], "pip failed"),
    ],
)
def test_failures_in_one_sentence(lines: list[str], words: str) -> None:
    """Each way to fail is one sentence."""
    assert words in why_it_failed(lines)


def test_a_terminal_has_one_moving_line() -> None:
    """On a terminal the line is written over, and the last one stays."""
    stream, clock = Terminal(), Clock()
    display = Display(stream, prefix="core", clock=clock)
    display.show("a", step=True)
    clock.now += 3
    display.show("b")
    display.done("ready")
    assert stream.getvalue() == "\r\x1b[Kcore: a (0 s)\r\x1b[Kcore: b (3 s)\r\x1b[Kcore: ready (3.0 s)\n"


def test_elsewhere_lines_are_few() -> None:
    """Without a terminal a step is a line, and within a step there is one only every five seconds."""
    stream, clock = io.StringIO(), Clock()
    display = Display(stream, prefix="core", clock=clock)
    display.show("a", step=True)
    clock.now += 1
    display.show("b")
    clock.now += 5
    display.show("c")
    clock.now += 6
    display.show("c")
    display.show("d", step=True)
    assert stream.getvalue().splitlines() == ["core: a (0 s)", "core: c (6 s)", "core: d (12 s)"]


def test_names_compare_as_indexes_compare_them() -> None:
    """Dots, underscores and capitals make no difference."""
    assert normalised("Zope.Interface") == normalised("zope_interface") == "zope-interface"
