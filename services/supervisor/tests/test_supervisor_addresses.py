"""Which addresses a local fleet gets, which vessels it has, what its children inherit. Nothing is bound."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from batos.protocol import BusAddresses, KeyRing
from batos.supervisor import KeeperSettings, PlaceSpec, SupervisorError
from batos.supervisor.addresses import choose_bus, image_address, image_socket
from batos.supervisor.keeping import children_environment
from batos.supervisor.places import local_places
from batos.supervisor.prepare import prepare
from batos.vessel import FleetFile

NOTHING = BusAddresses("", "", "", "", "key")
BEFORE = BusAddresses("tcp://127.0.0.1:1", "tcp://127.0.0.1:2", "tcp://127.0.0.1:3", "tcp://127.0.0.1:4", "old key")


def fresh(count: int) -> list[str]:
    return [f"tcp://127.0.0.1:{9000 + number}" for number in range(count)]


def test_the_first_start_takes_free_ports() -> None:
    """Where nothing is set and nothing was before, all are fresh; the key is the given one."""
    found = choose_bus(NOTHING, None, free=lambda _: True, fresh=fresh)
    assert found.work == "tcp://127.0.0.1:9000"
    assert found.subscribe == "tcp://127.0.0.1:9003"
    assert found.server_key == "key"


def test_later_starts_take_the_same_ports() -> None:
    """Ports of the last start are taken again while all of them are free, else all are fresh."""
    assert choose_bus(NOTHING, BEFORE, free=lambda _: True, fresh=fresh).control == BEFORE.control
    taken = choose_bus(NOTHING, BEFORE, free=lambda endpoint: endpoint != BEFORE.publish, fresh=fresh)
    assert taken.work == "tcp://127.0.0.1:9000"


def test_what_is_set_is_set() -> None:
    """An address that was set is taken, or refused by name when it is occupied; it is never replaced."""
    given = BusAddresses("tcp://127.0.0.1:7", "", "", "", "key")
    found = choose_bus(given, BEFORE, free=lambda _: True, fresh=fresh)
    assert (found.work, found.control) == ("tcp://127.0.0.1:7", BEFORE.control)
    with pytest.raises(SupervisorError, match=r"tcp://127.0.0.1:7 is occupied.*BATOS_BUS_WORK"):
        choose_bus(given, BEFORE, free=lambda endpoint: endpoint != given.work, fresh=fresh)


def test_a_deep_home_has_its_socket_elsewhere(tmp_path: Path) -> None:
    """The socket lies in the home, unless that is too deep: then in a folder of this user's alone, one a home."""
    assert image_socket(Path("/h")) == Path("/h/run/image.sock")
    deep, other = tmp_path / ("d" * 100), tmp_path / ("e" * 100)
    short = Path(os.path.relpath(tmp_path))
    found = image_socket(deep, tmp_path)
    assert found != image_socket(other, tmp_path)
    assert found == image_socket(deep, tmp_path)
    assert found.parent.parent.stat().st_mode & 0o777 == 0o700
    assert short.exists()


def test_a_foreign_folder_is_not_trusted(tmp_path: Path) -> None:
    """A folder for sockets that others may write to is refused."""
    (tmp_path / f"batos-{os.getuid()}").mkdir(mode=0o777)
    (tmp_path / f"batos-{os.getuid()}").chmod(0o777)
    with pytest.raises(SupervisorError, match="this user's alone"):
        image_socket(tmp_path / ("d" * 100), tmp_path)


def test_the_images_address_survives_odd_paths() -> None:
    """Whatever characters a home has, socket and blob folder are read back from the address."""
    parts = urlsplit(image_address(Path("/a b/?#%/s"), Path("/h & h")))
    assert unquote(parts.path) == "/a b/?#%/s"
    assert parse_qs(parts.query)["blob_dir"] == ["/h & h/image/blobs"]


def test_the_fleet(tmp_path: Path) -> None:
    """A local fleet has one of each, kernels as many as set, the foundation first; only kernels may be two at once."""
    settings = KeeperSettings(home=tmp_path, keeper_kernels=3, inference_env_python=Path(sys.executable))
    places = local_places(settings)
    assert [place.name for place in places if place.foundation] == ["image", "bus"]
    assert {place.name for place in places if place.two_at_once} == {"kernel-1", "kernel-2", "kernel-3"}
    assert {place.kind for place in places} == {
        "image", "bus", "kernel", "inference", "curator", "forge", "supervisor",
    }  # fmt: skip
    last = sorted(places, key=lambda place: place.stop_rank)[-2:]
    assert [place.name for place in last] == ["bus", "image"]


def test_an_image_elsewhere_has_no_place(tmp_path: Path) -> None:
    """Where the image is another machine's, this fleet does not keep it."""
    settings = KeeperSettings(
        home=tmp_path, image_uri="postgresql://db/batos", inference_env_python=Path(sys.executable)
    )
    assert "image" not in {place.name for place in local_places(settings)}


def test_no_inference_environment(tmp_path: Path) -> None:
    """A missing interpreter is named, with the command that makes it."""
    settings = KeeperSettings(home=tmp_path, inference_env_python=tmp_path / "python")
    with pytest.raises(SupervisorError, match="make install"):
        local_places(settings)


def test_what_children_inherit(tmp_path: Path) -> None:
    """Children get the keeper's environment without what is its own, the home, and a bound on threads."""
    settings = KeeperSettings(home=tmp_path)
    given = {"PATH": "/bin", "BATOS_NAME": "keeper", "BATOS_METRICS_PORT": "9", "BATOS_KERNEL_X": "1"}
    found = children_environment(given, settings)
    assert "BATOS_NAME" not in found
    assert found["BATOS_METRICS_PORT"] == "0"
    assert found["BATOS_KERNEL_X"] == "1"
    assert found["BATOS_HOME"] == str(tmp_path)
    assert found["OMP_NUM_THREADS"] == "2"
    assert children_environment({"OMP_NUM_THREADS": "7"}, settings)["OMP_NUM_THREADS"] == "7"


def test_preparing_a_home(tmp_path: Path) -> None:
    """Preparing makes a key for each vessel and a fleet file that says where everything is; again, it is the same."""
    settings = KeeperSettings(home=tmp_path, name="keeper", **{
        f"bus_{name}": f"ipc:///x/{name}" for name in ("work", "control", "publish", "subscribe")
    })  # type: ignore[arg-type]  # fmt: skip
    places = [PlaceSpec("image", "image", ("x",)), PlaceSpec("bus", "bus", ("x",))]
    ready = prepare(settings, places)
    fleet = FleetFile.load(tmp_path)
    assert fleet.bus == ready.bus_addresses()
    assert fleet.bus.server_key == KeyRing(tmp_path / "keys").ensure("bus").public
    assert len(KeyRing(tmp_path / "keys").known()) == 4
    assert fleet.image_uri == ready.image_uri
    assert fleet.keeper_pid == os.getpid()
    assert [place.name for place in fleet.places] == ["image", "bus"]
    assert prepare(settings, places) == ready
    secret = (tmp_path / "keys" / "bus.secret").read_text().strip()
    assert secret not in (tmp_path / "fleet.json").read_text()
