"""The host interface: what live methods were promised is there, in every version that this kernel serves."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest

from batos.kernel import interface
from batos.kernel.genesis.sources import method_sources, shipped_files
from batos.kernel.host import Host
from batos.uvm import host_needed

PROMISED = json.loads((Path(__file__).parent / "host_interface.json").read_text())
"""Version to name to signature. What stands here is never changed: a later version adds, or leaves out."""


def offered() -> dict[str, str]:
    """What a live method may ask of its host, as it would be written."""
    found = {}
    for name, member in vars(Host).items():
        if name.startswith("_"):
            continue
        found[name] = "" if isinstance(member, property) else as_called(member)
    return found


def as_called(function: object) -> str:
    """A method's signature without the receiver and without types."""
    given = inspect.signature(function)  # type: ignore[arg-type]
    bare = [one.replace(annotation=inspect.Parameter.empty) for one in list(given.parameters.values())[1:]]
    return str(inspect.Signature(bare))


@pytest.mark.parametrize("version", [*range(interface.HOST.oldest, interface.HOST.newest + 1)])
def test_what_was_promised_is_there(version: int) -> None:
    """Everything of a served version is offered, with the same arguments."""
    missing = {name: form for name, form in PROMISED[str(version)].items() if offered().get(name) != form}
    assert not missing


def test_newest_version_is_all_there_is() -> None:
    """What is offered beyond the newest version was forgotten there: methods could use it without saying so."""
    assert offered() == PROMISED[str(interface.HOST.newest)]


def test_this_one_and_the_one_before() -> None:
    """A kernel serves its own version of the interface and of the image, and the one before each."""
    for span in (interface.HOST, interface.IMAGE):
        assert span.newest - span.oldest == 1


def test_shipped_methods_are_written_for_the_newest_version() -> None:
    """An image that took this release's methods is ready for the next release, which serves this version, too."""
    sources = [source for file in shipped_files().values() for source in method_sources(file).values()]
    assert {host_needed(source) for source in sources} == {interface.HOST.newest}
