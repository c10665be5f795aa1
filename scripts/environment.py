"""Makes the environments of the checkout from pinned constraints: `environment.py core dev inference forge vllm`.

Needs nothing but Python 3.11 or newer with its venv module. A second call finds the stamp of the first and ends at
once; a changed constraints file or package is noticed; what was interrupted while it wrote files is made again.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - who has an older one should be told so, not shown a traceback
    sys.exit(
        f"BAT OS needs Python 3.11 or newer, this is {sys.version.split()[0]} ({sys.executable}): "
        "name another, for example `make PYTHON=python3.12 run`"
    )

import argparse
import fcntl
import hashlib
import json
import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pip_progress import Display, PipProgress, normalised, why_it_failed

CHECKOUT = Path(__file__).resolve().parents[1]
STAMP = ".batos-environment.json"
TICK_S = 0.2
"""How often what is shown is brought up to date while pip is silent."""

_LIBRARIES = ("libs/protocol", "libs/vessel", "libs/uvm", "libs/mind")
_SERVICES = tuple(
    f"services/{name}"
    for name in ("bus", "image", "kernel", "persona-inference", "curator", "forge-trainer", "supervisor", "console")
)


@dataclass(frozen=True)
class Environment:
    """What belongs into one environment.

    Attributes:
        folder: where it stands in the checkout.
        constraints: files with the complete pins, all installed.
        alone: files with pins that are installed without their dependencies.
        unfit: packages that come along but break the environment; removed again.
        packages: folders of the checkout that are installed so that changes in them are seen at once.
    """

    folder: str
    constraints: tuple[str, ...]
    alone: tuple[str, ...] = ()
    unfit: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


ENVIRONMENTS = {
    "core": Environment(".venv", ("core.txt",), packages=_LIBRARIES + _SERVICES),
    "dev": Environment(".venv", ("core.txt", "dev.txt"), packages=_LIBRARIES + _SERVICES),
    "inference": Environment(
        ".venv-inference",
        ("inference.txt",),
        alone=("inference-model.txt",),
        packages=(*_LIBRARIES, "services/persona-inference"),
    ),
    "forge": Environment(".venv-forge", ("forge.txt",)),
    "vllm": Environment(".venv-vllm", ("vllm.txt",), unfit=("torchvision", "torchaudio", "torchcodec")),
}
CONTAINS = {"dev": ("core",)}
"""Whoever has the first has the others too."""


class EnvironmentFailed(Exception):  # noqa: N818 - it is what happened
    """An environment could not be made; the text says why and what to do."""


def digest(environment: Environment, checkout: Path) -> str:
    """Return a hash of all that an environment is made from, its place and its Python included."""
    parts = hashlib.sha256(repr((environment, str(checkout), sys.version_info[:2])).encode())
    files = [f"constraints/{name}" for name in ("pip.txt", "build.txt", *environment.constraints, *environment.alone)]
    files += [f"{package}/pyproject.toml" for package in environment.packages]
    for name in files:
        parts.update(name.encode())
        parts.update((checkout / name).read_bytes())
    return parts.hexdigest()


def read_stamp(folder: Path) -> dict[str, Any]:
    """Return what is known about the environment in a folder; nothing where no stamp can be read."""
    try:
        found = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_stamp(folder: Path, stamp: dict[str, Any]) -> None:
    """Write the stamp whole or not at all."""
    temporary = folder / f"{STAMP}.{os.getpid()}"
    temporary.write_text(json.dumps(stamp, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(folder / STAMP)


def pins(path: Path) -> list[str]:
    """Return the requirements that a constraints file names."""
    lines = (line.split("#", 1)[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


class Maker:
    """Makes one environment in one folder."""

    def __init__(self, name: str, folder: Path, checkout: Path, display: Display) -> None:
        self.name = name
        self.environment = ENVIRONMENTS[name]
        self.folder = folder
        self.checkout = checkout
        self.display = display
        self.python = folder / "bin" / "python"
        self.log_path = checkout / "var" / "log" / f"environment-{name}.log"
        self._wrote = False

    def is_current(self) -> bool:
        """Whether the environment stands as its constraints say."""
        stamp = read_stamp(self.folder)
        return (
            "making" not in stamp
            and stamp.get(self.name) == digest(self.environment, self.checkout)
            and self.python.exists()
        )

    def make(self) -> None:
        """Make the environment, or bring it up to its constraints.

        Raises:
            EnvironmentFailed: with the reason in words.
        """
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self.log_path.unlink(missing_ok=True)
        before = self._begin()
        try:
            self._venv()
            self._install()
        except BaseException:
            if not self._wrote:
                write_stamp(self.folder, before)
            raise
        current = {
            name: digest(ENVIRONMENTS[name], self.checkout) for name in (self.name, *CONTAINS.get(self.name, ()))
        }
        write_stamp(self.folder, before | current)

    def _begin(self) -> dict[str, Any]:
        """Clear away what is broken, mark the folder as being worked on, and return its stamp as it was."""
        before = read_stamp(self.folder)
        if self.folder.exists():
            marks = (self.folder / name for name in (STAMP, "pyvenv.cfg"))
            if any(self.folder.iterdir()) and not any(mark.exists() for mark in marks):
                raise EnvironmentFailed(f"{self.folder} is no environment: name another folder, or remove it yourself")
            if "making" in before or not self._runs():
                self.display.show("removing what an interrupted call left behind", step=True)
                shutil.rmtree(self.folder)
                before = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_stamp(self.folder, before | {"making": self.name})
        return before

    def _runs(self) -> bool:
        """Whether the environment's own Python and pip answer."""
        if not (self.folder / "pyvenv.cfg").exists():
            return False
        try:
            asked = subprocess.run(
                [self.python, "-m", "pip", "--version"], capture_output=True, timeout=60, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return asked.returncode == 0

    def _venv(self) -> None:
        if self.python.exists():
            return
        progress = PipProgress(phase="making the environment's folder")
        self.display.show(progress.text(), step=True)
        status, lines = self._run([sys.executable, "-m", "venv", str(self.folder)], progress)
        if status:
            text = "\n".join(lines)
            if "ensurepip" in text or "No module named venv" in text:
                raise EnvironmentFailed(
                    f"{sys.executable} has no venv module: install it (Debian and Ubuntu: apt install python3-venv)"
                )
            raise EnvironmentFailed(f"no environment could be made in {self.folder}: {why_it_failed(lines)}")

    def _install(self) -> None:
        constraints = self.checkout / "constraints"
        # The pip that comes with Python may be too old to print its progress in bytes (`raw`, since 24.1).
        self._call("bringing pip to its version", "install", "-r", str(constraints / "pip.txt"))
        build = ("--build-constraint", str(constraints / "build.txt"))
        files = [constraints / name for name in self.environment.constraints]
        total = sum(len(pins(path)) for path in files)
        self._pip(f"{total} packages", *build, *_each("-r", files), total=total)
        alone = [constraints / name for name in self.environment.alone]
        if alone:
            names = ", ".join(pin for path in alone for pin in pins(path))
            self._pip(names, "--no-deps", *_each("-r", alone), total=len(alone))
        if self.environment.unfit:
            self._call("removing what does not fit", "uninstall", "-y", *self.environment.unfit)
        local = [self.checkout / package for package in self.environment.packages]
        if local:
            arguments = ("--no-build-isolation", "--no-deps", *_each("-e", local))
            self._pip(f"{len(local)} packages of this checkout", *arguments, total=len(local))

    def _pip(self, what: str, *arguments: str, total: int = 0) -> None:
        self._call(what, "install", "--progress-bar", "raw", *arguments, total=total)

    def _call(self, what: str, *arguments: str, total: int = 0) -> None:
        self.display.show(what, step=True)
        progress = PipProgress(total=total, installed=self._installed)
        command = [str(self.python), "-m", "pip", "--no-input", "--disable-pip-version-check", *arguments]
        status, lines = self._run(command, progress)
        if status:
            raise EnvironmentFailed(why_it_failed(lines))
        self._wrote = False

    def _installed(self) -> set[str]:
        return {
            normalised(path.name.split("-", 1)[0]) for path in self.folder.glob("lib/python*/site-packages/*.dist-info")
        }

    def _run(self, command: Sequence[str], progress: PipProgress) -> tuple[int, list[str]]:
        """Run a command, show how far it is, keep what it says in the log; return its status and its lines."""
        dropped = {"PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "__PYVENV_LAUNCHER__"}
        environ = {name: value for name, value in os.environ.items() if name not in dropped}
        lines: list[str] = []
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environ | {"PYTHONUNBUFFERED": "1"},
        )
        with self.log_path.open("a", encoding="utf-8") as log, child:
            log.write(f"$ {' '.join(command)}\n")
            try:
                for line in _lines(child):
                    if line:
                        progress.feed(line)
                        if not line.startswith("Progress "):
                            log.write(line)
                            log.flush()
                            lines.append(line.rstrip("\n"))
                    self._wrote = self._wrote or progress.began_installing
                    self.display.show(progress.text())
            except BaseException:
                child.terminate()
                raise
        return child.returncode, lines


def _each(option: str, values: Sequence[Path]) -> list[str]:
    return [word for value in values for word in (option, str(value))]


def _lines(child: subprocess.Popen[str]) -> Iterator[str]:
    """Yield a child's lines as they come, and an empty text whenever it has been silent for a tick."""
    arrived: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert child.stdout is not None  # noqa: S101 - it was started with a pipe
        for line in child.stdout:
            arrived.put(line)
        arrived.put(None)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    while True:
        try:
            line = arrived.get(timeout=TICK_S)
        except queue.Empty:
            yield ""
            continue
        if line is None:
            reader.join()
            return
        yield line


@contextmanager
def turn(checkout: Path, display: Display) -> Iterator[None]:
    """Hold the checkout's lock: calls that run at the same time take turns.

    The lock is on the core environment's constraints file, so that no file is left behind.
    """
    with (checkout / "constraints" / "core.txt").open("rb") as file:
        waiting = threading.Event()
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                display.show("waiting for another call that makes an environment here", step=not waiting.is_set())
                waiting.set()
                threading.Event().wait(TICK_S)
            else:
                break
        yield


def ensure(name: str, *, folder: Path | None = None, checkout: Path = CHECKOUT) -> None:
    """Make sure that an environment stands as its constraints say.

    Raises:
        EnvironmentFailed: with the reason in words.
    """
    maker_folder = folder or checkout / ENVIRONMENTS[name].folder
    display = Display(sys.stdout, prefix=name)
    maker = Maker(name, maker_folder, checkout, display)
    try:
        if maker.is_current():
            return
        with turn(checkout, display):
            if not maker.is_current():
                maker.make()
                display.done(f"ready in {_shown(maker_folder)}")
    except OSError as error:
        raise EnvironmentFailed(f"{error.strerror or error} ({error.filename or maker_folder})") from error


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0 made, 1 could not be made, 2 wrong usage, 130 interrupted."""
    parser = argparse.ArgumentParser(description="Make the environments of this checkout from pinned constraints.")
    parser.add_argument("names", nargs="+", choices=sorted(ENVIRONMENTS), metavar="NAME", help=", ".join(ENVIRONMENTS))
    parser.add_argument("--path", type=Path, help="where to make it instead of its folder in the checkout")
    options = parser.parse_args(arguments)
    if options.path and len(options.names) > 1:
        parser.error("--path goes with one environment")
    for name in options.names:
        log = _shown(CHECKOUT / "var" / "log" / f"environment-{name}.log")
        try:
            ensure(name, folder=options.path.absolute() if options.path else None)
        except EnvironmentFailed as failed:
            sys.stdout.flush()
            print(f"\n{name}: not made: {failed}; all that was said: {log}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print(f"\n{name}: interrupted; call again to go on", file=sys.stderr)
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
