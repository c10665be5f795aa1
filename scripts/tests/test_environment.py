from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import environment
import pytest
from environment import (
    ENVIRONMENTS,
    STAMP,
    Environment,
    EnvironmentFailed,
    Maker,
    digest,
    pins,
    read_stamp,
    write_stamp,
)
from pip_progress import Display, PipProgress

CHECKOUT = Path(environment.__file__).resolve().parents[1]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of one package."""
    (tmp_path / "constraints").mkdir()
    for name in ("pip", "build", "core"):
        (tmp_path / "constraints" / f"{name}.txt").write_text(f"# pins\n{name}-package==1.0  # why\n")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "pyproject.toml").write_text("[project]\n")
    return tmp_path


@pytest.fixture
def maker(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    """Makes a small environment; what it runs is only written down."""
    monkeypatch.setitem(ENVIRONMENTS, "core", Environment(".venv", ("core.txt",), packages=("lib",)))
    return Maker("core", checkout / ".venv", checkout, Display(io.StringIO(), prefix="core"))


class Commands:
    """Stands in for subprocesses: writes down what was run, makes the interpreter, fails where told."""

    def __init__(self, maker: Maker) -> None:
        self.maker = maker
        self.run: list[str] = []
        self.fail_at = ""
        self.writes = False

    def __call__(self, command: list[str], progress: PipProgress) -> tuple[int, list[str]]:
        del progress
        line = " ".join(str(part) for part in command)
        self.run.append(line)
        if " venv " in line:
            self.maker.python.parent.mkdir(parents=True)
            self.maker.python.touch()
            (self.maker.folder / "pyvenv.cfg").touch()
        if self.fail_at and self.fail_at in line:
            self.maker._wrote = self.writes
            return 1, ["Temporary failure in name resolution"]
        return 0, []


@pytest.fixture
def commands(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> Commands:
    found = Commands(maker)
    monkeypatch.setattr(maker, "_run", found)
    monkeypatch.setattr(maker, "_runs", maker.python.exists)
    return found


def test_made_once(maker: Maker, commands: Commands) -> None:
    """An environment is not current before it is made, and is afterwards."""
    assert not maker.is_current()
    maker.make()
    assert maker.is_current()
    assert len(commands.run) == 4
    assert commands.run[1].endswith("constraints/pip.txt")
    assert "--no-build-isolation --no-deps -e" in commands.run[3]


@pytest.mark.parametrize("changed", ["constraints/core.txt", "constraints/pip.txt", "lib/pyproject.toml"])
def test_changes_are_noticed(maker: Maker, commands: Commands, checkout: Path, changed: str) -> None:
    """A changed pin or package makes the environment out of date, and it is brought up to date in place."""
    maker.make()
    (checkout / changed).write_text("something-else==2.0\n")
    assert not maker.is_current()
    commands.run.clear()
    maker.make()
    assert maker.is_current()
    assert not any(" venv " in line for line in commands.run)


def test_failure_before_anything_was_written_keeps_what_was(maker: Maker, commands: Commands, checkout: Path) -> None:
    """Without a network the environment that stands stays as it is."""
    maker.make()
    before = read_stamp(maker.folder)
    (checkout / "constraints" / "core.txt").write_text("new==1\n")
    commands.fail_at = "core.txt"
    with pytest.raises(EnvironmentFailed, match="cannot be reached"):
        maker.make()
    assert read_stamp(maker.folder) == before


def test_what_was_interrupted_is_made_again(maker: Maker, commands: Commands) -> None:
    """A call that failed while it wrote files leaves a mark; the next one starts from nothing."""
    commands.fail_at, commands.writes = "core.txt", True
    with pytest.raises(EnvironmentFailed):
        maker.make()
    assert read_stamp(maker.folder)["making"] == "core"
    assert not maker.is_current()
    (maker.folder / "debris").touch()
    maker._wrote, commands.fail_at = False, ""
    maker.make()
    assert maker.is_current()
    assert not (maker.folder / "debris").exists()


def test_a_folder_of_something_else_is_left_alone(maker: Maker, commands: Commands) -> None:
    """A folder that is no environment is not removed."""
    maker.folder.mkdir()
    (maker.folder / "letters").touch()
    with pytest.raises(EnvironmentFailed, match="no environment"):
        maker.make()
    assert (maker.folder / "letters").exists()
    assert commands.run == []


def test_missing_venv_module_says_what_to_install(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python without venv gets a sentence that names the package."""
    answer: Callable[..., tuple[int, list[str]]] = lambda *_: (1, ["ensurepip is not available"])  # noqa: E731
    monkeypatch.setattr(maker, "_run", answer)
    with pytest.raises(EnvironmentFailed, match="python3-venv"):
        maker.make()


def test_stamps_that_cannot_be_read_count_for_nothing(tmp_path: Path) -> None:
    """A torn stamp is no stamp."""
    (tmp_path / STAMP).write_text('{"core": "x')
    assert read_stamp(tmp_path) == {}
    write_stamp(tmp_path, {"core": "y"})
    assert read_stamp(tmp_path) == {"core": "y"}


def test_pins_leave_comments_out(checkout: Path) -> None:
    """Only requirements count."""
    assert pins(checkout / "constraints" / "core.txt") == ["core-package==1.0"]


@pytest.mark.parametrize("name", sorted(ENVIRONMENTS))
def test_every_constraint_of_the_checkout_is_exact(name: str) -> None:
    """Each environment's lists exist and pin every package to one version, without places or hosts."""
    described = ENVIRONMENTS[name]
    assert len(digest(described, CHECKOUT)) == 64
    for file in (*described.constraints, *described.alone):
        for pin in pins(CHECKOUT / "constraints" / file):
            package, _, version = pin.partition("==")
            assert version, pin
            assert not set("/@ +") & set(package + version), pin


def test_old_pythons_are_told() -> None:
    """The check of the version stands before everything that an old Python could not read."""
    text = (CHECKOUT / "scripts" / "environment.py").read_text()
    assert text.index("sys.version_info <") < text.index("import argparse")
    assert "from __future__" not in text


def test_unknown_names_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is no environment ends with 2 and lists those that are."""
    with pytest.raises(SystemExit) as ended:
        environment.main(["cpu"])
    assert ended.value.code == 2
    assert "inference" in capsys.readouterr().err


def test_current_environment_is_known_in_a_moment(
    maker: Maker, commands: Commands, monkeypatch: pytest.MonkeyPatch, checkout: Path
) -> None:
    """A second call runs nothing at all."""
    maker.make()
    commands.run.clear()

    def forbidden(*_: object, **__: object) -> None:
        pytest.fail("a process was started")

    monkeypatch.setattr(subprocess, "Popen", forbidden)
    environment.ensure("core", checkout=checkout)
    assert commands.run == []
    assert sys.version_info >= (3, 11)
