"""Where settings come from, what is refused, what is shown."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field, SecretStr, ValidationError

from batos.protocol import BusAddresses, KeyRing
from batos.vessel import CURVE_OFF, FleetFile, SettingsError, VesselSettings, load_settings


class KernelLike(VesselSettings):
    service: ClassVar[str] = "kernel"

    kernel_slots: int = Field(default=4, ge=1, le=64, description="How many cycles at a time.")
    kernel_token: SecretStr = Field(default=SecretStr(""), description="A secret.")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("BATOS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_defaults_stand_below_the_working_directory(tmp_path: Path) -> None:
    """Without environment and file everything has its default; the home is absolute."""
    settings = load_settings(KernelLike)
    assert settings.home == tmp_path / "var"
    assert settings.kernel_slots == 4


def test_order_of_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Arguments go before the environment, that before the home's file, that before the working directory's."""
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "batos.toml").write_text(f'home = "{home}"\nlog_level = "debug"\n[kernel]\nslots = 5\n')
    assert load_settings(KernelLike).kernel_slots == 5
    (home / "batos.toml").write_text("kernel_slots = 6\n")
    settings = load_settings(KernelLike)
    assert (settings.kernel_slots, settings.log_level, settings.home) == (6, "debug", home)
    monkeypatch.setenv("BATOS_KERNEL_SLOTS", "7")
    assert load_settings(KernelLike).kernel_slots == 7
    assert load_settings(KernelLike, kernel_slots=8).kernel_slots == 8


def test_settings_are_frozen() -> None:
    """A setting cannot be changed once it is read."""
    settings = load_settings(KernelLike)
    with pytest.raises(ValidationError, match="frozen"):
        settings.kernel_slots = 5  # type: ignore[misc]


@pytest.mark.parametrize(("name", "near"), [("BATOS_KERNEL_SLOT", "BATOS_KERNEL_SLOTS"), ("BATOS_HOEM", "BATOS_HOME")])
def test_unknown_names_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, near: str) -> None:
    """A name in the environment that nobody knows is an error that says the nearest one."""
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingsError, match=f"{name} is no setting; the nearest one is {near}"):
        load_settings(KernelLike)


def test_names_of_other_services_are_theirs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A whole fleet shares one environment and one file: what is another service's is left to it."""
    monkeypatch.setenv("BATOS_CURATOR_ANYTHING", "1")
    (tmp_path / "batos.toml").write_text("[inference]\nanything = 1\n")
    assert load_settings(KernelLike).kernel_slots == 4


@pytest.mark.parametrize(
    "text", ["kernel_slot = 1\n", "[kernel]\nslot = 1\n", "[colonel]\nslots = 1\n"], ids=["flat", "table", "no table"]
)
def test_unknown_keys_of_the_file_are_refused(tmp_path: Path, text: str) -> None:
    """A key of batos.toml that nobody knows is an error that says file and nearest name."""
    (tmp_path / "batos.toml").write_text(text)
    with pytest.raises(SettingsError, match=r"batos\.toml.* is no setting; the nearest one is "):
        load_settings(KernelLike)


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    """A batos.toml that is not TOML is an error that names it."""
    (tmp_path / "batos.toml").write_text("kernel_slots = ")
    with pytest.raises(SettingsError, match=r"batos\.toml is not TOML"):
        load_settings(KernelLike)


def test_a_home_cannot_move_itself(tmp_path: Path) -> None:
    """The home's own file may not set the home."""
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "batos.toml").write_text('home = "/elsewhere"\n')
    with pytest.raises(SettingsError, match="sets home"):
        load_settings(KernelLike)


def test_bounds_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value out of bounds is one sentence with its name as it is written in the environment."""
    monkeypatch.setenv("BATOS_KERNEL_SLOTS", "0")
    monkeypatch.setenv("BATOS_METRICS_PORT", "70000")
    with pytest.raises(SettingsError) as caught:
        load_settings(KernelLike)
    assert "BATOS_KERNEL_SLOTS: Input should be greater than or equal to 1 (it is '0')" in str(caught.value)
    assert "BATOS_METRICS_PORT" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_empty_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable counts as not set."""
    monkeypatch.setenv("BATOS_KERNEL_SLOTS", "")
    assert load_settings(KernelLike).kernel_slots == 4


def test_secrets_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed at the start has every setting and no secret."""
    monkeypatch.setenv("BATOS_KERNEL_TOKEN", "geheim")
    settings = load_settings(KernelLike)
    assert "geheim" not in settings.shown()
    assert "kernel_token=***" in settings.shown()
    assert "kernel_slots=4" in settings.shown()


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://mind:geheim@db:5432/mind?wait_timeout=5", "postgresql://mind:***@db:5432/mind?wait_timeout=5"),
        ("postgresql://mind:ge/he?im@x@db/mind", "postgresql://mind:***@db/mind"),
        ("postgresql://mind:geheim", "postgresql://mind:***"),
        ("postgresql://db:5432/mind", "postgresql://db:5432/mind"),
        ("postgresql://db/mind?password=geheim&host=/run", "postgresql://db/mind?password=***&host=/run"),
        ("zeo://image:9991?tls=/run/batos/keys", "zeo://image:9991?tls=/run/batos/keys"),
        ("", ""),
    ],
)
def test_a_password_in_an_address_is_not_shown(monkeypatch: pytest.MonkeyPatch, uri: str, shown: str) -> None:
    """Where the image is can be told without it."""
    monkeypatch.setenv("BATOS_IMAGE_URI", uri)
    assert f"image_uri={shown!r} " in load_settings(KernelLike).shown()


def test_a_fault_in_an_address_does_not_tell_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it hide what is wrong."""
    monkeypatch.setenv("BATOS_IMAGE_URI", f"postgresql://mind:geheim@db/{'x' * 1024}")
    with pytest.raises(SettingsError, match=r"BATOS_IMAGE_URI: .* at most 1024 .*mind:\*\*\*@db") as caught:
        load_settings(KernelLike)
    assert "geheim" not in str(caught.value)


def test_every_field_is_described() -> None:
    """Every setting has a default and a description."""
    for name, field in KernelLike.model_fields.items():
        assert field.description, name
        assert not field.is_required(), name


def test_addresses_come_from_the_fleet_file(tmp_path: Path) -> None:
    """Addresses that are not set are those of fleet.json; those that are set stay."""
    bus = BusAddresses("tcp://a:1", "tcp://a:2", "tcp://a:3", "tcp://a:4", "k" * 40)
    FleetFile(bus=bus, image_uri="zeo:///s").save(tmp_path)
    settings = load_settings(KernelLike, home=tmp_path, bus_control="tcp://b:2").with_fleet()
    assert settings.bus_addresses() == BusAddresses("tcp://a:1", "tcp://b:2", "tcp://a:3", "tcp://a:4", "k" * 40)
    assert settings.image_uri == "zeo:///s"


def test_without_a_fleet_the_addresses_must_be_set(tmp_path: Path) -> None:
    """Where there is no fleet.json, missing addresses are named; to go without encryption must be asked for."""
    given = {f"bus_{name}": f"ipc:///x/{name}" for name in ("work", "control", "publish", "subscribe")}
    with pytest.raises(SettingsError, match=r"BATOS_BUS_SERVER_KEY not set.*batos up"):
        load_settings(KernelLike, home=tmp_path, **given).with_fleet()
    settings = load_settings(KernelLike, home=tmp_path, bus_server_key=CURVE_OFF, **given).with_fleet()
    assert settings.bus_addresses().server_key == ""


def test_provided_keys_bring_the_key_of_the_bus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With addresses set and a folder of keys, no fleet file is needed; the vessel's own key may have another name."""
    made = KeyRing(tmp_path / "made")
    bus, kernel = made.ensure("bus"), made.ensure("kernel")
    for name in ("WORK", "CONTROL", "PUBLISH", "SUBSCRIBE"):
        monkeypatch.setenv(f"BATOS_BUS_{name}", "tcp://bus:1")
    monkeypatch.setenv("BATOS_KEYS", str(tmp_path / "made"))
    monkeypatch.setenv("BATOS_KEY_NAME", "kernel")
    settings = load_settings(KernelLike, name="kernel-1").with_fleet()
    assert settings.bus_addresses().server_key == bus.public
    assert settings.key_pair() == kernel


def test_a_folder_of_keys_that_is_not_mounted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is said before anything else is tried."""
    monkeypatch.setenv("BATOS_KEYS", str(tmp_path / "nowhere"))
    with pytest.raises(SettingsError, match=r"nowhere/bus\.public cannot be read.*mount"):
        load_settings(KernelLike).with_fleet()


def test_without_a_folder_keys_are_made_in_the_home(tmp_path: Path) -> None:
    """Under the vessel's own name."""
    settings = load_settings(KernelLike, name="kernel-1")
    assert settings.key_pair() == settings.key_pair()
    assert (tmp_path / "var" / "keys" / "kernel-1.secret").is_file()


def test_a_home_of_another_user_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whose it is, whose it has to be, what to do; one that is not there yet is nobody's."""
    home = tmp_path / "home"
    load_settings(KernelLike, home=home).check_home()
    home.mkdir()
    load_settings(KernelLike, home=home).check_home()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(SettingsError, match=rf"{home} cannot be written; mount a volume") as caught:
        load_settings(KernelLike, home=home).check_home()
    assert caught.value.code == "home_read_only"
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(SettingsError, match=rf"{home} is user {owner}'s.*let this user own") as caught:
        load_settings(KernelLike, home=home).check_home()
    assert caught.value.code == "home_foreign"
