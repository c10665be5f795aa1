"""Settings of a vessel: from `BATOS_…` in the environment, then `batos.toml`, then defaults; frozen once read.

A setting `kernel_slots` is `BATOS_KERNEL_SLOTS` in the environment, and in `batos.toml` either `kernel_slots = 4` or
`slots = 4` in the table `[kernel]`. The file is looked for in the fleet's home and in the working directory; the home's
goes first. What belongs to another service is that service's to check; what belongs to nobody is an error.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError
from typing_extensions import Annotated  # noqa: UP035 - pydantic reads it at run time

from batos.protocol import BadKey, BusAddresses, KeyPair, KeyRing
from batos.vessel.errors import FleetNotFound, SettingsError
from batos.vessel.fleet import FleetFile

PREFIX = "BATOS_"
SETTINGS_FILE = "batos.toml"
SERVICES = ("image", "bus", "kernel", "inference", "curator", "forge", "supervisor", "keeper", "console", "deploy")
"""Whose settings there are; `deploy` is no vessel: Compose and its like read those."""
KEYS_FOLDER = "keys"
BUS_KEY = "bus"
"""Name of the bus's key."""
HIDDEN = "***"
"""What stands where a secret would."""
IMAGE_URI = "image_uri"
"""The setting that may have a password in it."""
CURVE_OFF = "off"
"""Value of `bus_server_key` that switches encryption off; for tests only."""

_PORT = re.compile(r"\d*([/?]|$)")
_SECRET_PARAMETER = re.compile(r"([?&][^=&]*pass[^=&]*=)[^&]+", re.IGNORECASE)
_ADDRESSES = ("bus_work", "bus_control", "bus_publish", "bus_subscribe", "bus_server_key")
_Address = Annotated[str, Field(max_length=256)]


class VesselSettings(BaseSettings):
    """What every vessel can be told. A service adds fields whose names begin with its own name."""

    service: ClassVar[str] = ""
    """The name that this service's own settings begin with, one of `SERVICES`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True, validate_default=True
    )

    home: Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())] = Field(
        default=Path("var"), description="Folder of all that a fleet writes; relative to the working directory."
    )
    name: str = Field(
        default="",
        max_length=64,
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$",
        description="This vessel's place in the fleet, for example kernel-1; empty: its kind.",
    )
    keys: Annotated[Path | None, AfterValidator(lambda path: path and path.expanduser().absolute())] = Field(
        default=None, description="Folder of keys that were made for this vessel; unset: keys in the home, made there."
    )
    key_name: str = Field(
        default="", max_length=64, description="The name of this vessel's own key in that folder; empty: its name."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least severe line that is logged."
    )
    log_format: Literal["text", "json"] = Field(default="text", description="How a line is written to stderr.")
    metrics_host: str = Field(
        default="127.0.0.1",
        min_length=1,
        max_length=255,
        description="Address that /metrics, /healthz and /readyz listen on.",
    )
    metrics_port: int = Field(default=0, ge=0, le=65535, description="Their port; 0 takes a free one.")
    image_uri: str = Field(
        default="", max_length=1024, description="Where the image is; empty: as fleet.json in the home says."
    )
    bus_work: _Address = Field(default="", description="ZeroMQ endpoint for requests; empty: as fleet.json says.")
    bus_control: _Address = Field(default="", description="Endpoint for control; empty: as fleet.json says.")
    bus_publish: _Address = Field(default="", description="Endpoint for publishers; empty: as fleet.json says.")
    bus_subscribe: _Address = Field(default="", description="Endpoint for subscribers; empty: as fleet.json says.")
    bus_server_key: _Address = Field(
        default="", description="Public key of the bus (z85); empty: as fleet.json says; off: no encryption, for tests."
    )
    heartbeat_s: float = Field(default=1.0, ge=0.05, le=60, description="Seconds between heartbeats to the bus.")
    drain_timeout_s: float = Field(
        default=120.0, ge=0, le=3600, description="Seconds that work may still take after SIGTERM."
    )
    stop_timeout_s: float = Field(
        default=10.0, ge=0.1, le=600, description="Seconds that letting go of everything may take after the drain."
    )
    stall_s: float = Field(
        default=30.0,
        ge=1,
        le=3600,
        description="Seconds without a turn of the event loop after which /healthz says 503.",
    )
    parent_pid: int = Field(
        default=0, ge=0, le=2**31, description="The vessel ends when this process is its parent no longer; 0: it stays."
    )
    inference_env_python: Path | None = Field(
        default=None, description="Interpreter that the keeper starts persona-inference with; unset: .venv-inference."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments before the environment before `batos.toml`."""
        del env_settings, dotenv_settings, file_secret_settings
        return init_settings, _Environment(settings_cls), _TomlFiles(settings_cls)

    def with_fleet(self) -> Self:
        """Return these settings with the addresses that are not set taken from the home's `fleet.json`.

        Raises:
            SettingsError: an address is neither set nor written there.
            VesselError: the file cannot be read.
        """
        if self.keys is not None and not self.bus_server_key:
            return self.model_copy(update={"bus_server_key": self._provided_server_key()}).with_fleet()
        missing = [name for name in _ADDRESSES if not getattr(self, name)]
        if not missing and self.image_uri:
            return self
        try:
            fleet = FleetFile.load(self.home)
        except FleetNotFound as error:
            if not missing:
                return self
            names = ", ".join(PREFIX + name.upper() for name in missing)
            raise SettingsError(
                "bus_unknown",
                f"{names} not set, and {error.message}",
                "start the fleet with `batos up`, or set the addresses",
            ) from None
        filled: dict[str, Any] = {name: getattr(fleet.bus, name.removeprefix("bus_")) for name in missing}
        if not self.image_uri:
            filled["image_uri"] = fleet.image_uri
        if filled.get("bus_server_key") == "":
            filled["bus_server_key"] = CURVE_OFF
        return self.model_copy(update=filled)

    def bus_addresses(self) -> BusAddresses:
        """Return where the bus is; complete after `with_fleet`."""
        key = "" if self.bus_server_key == CURVE_OFF else self.bus_server_key
        return BusAddresses(
            work=self.bus_work,
            control=self.bus_control,
            publish=self.bus_publish,
            subscribe=self.bus_subscribe,
            server_key=key,
        )

    def check_home(self) -> None:
        """Make sure that what the vessel writes can be written; a home that is not there yet is made later.

        Raises:
            SettingsError: it cannot; the sentence says why.
        """
        if self.home.exists() and not os.access(self.home, os.R_OK | os.W_OK | os.X_OK):
            raise unusable_home(self.home)

    def key_ring(self) -> KeyRing:
        """Return where this vessel's keys are."""
        if self.keys is not None:
            return KeyRing(self.keys, provided=True)
        return KeyRing(self.home / KEYS_FOLDER)

    def key_pair(self) -> KeyPair:
        """Return this vessel's own keys, made at its first start unless they are provided.

        Raises:
            BadKey: there are none, or the file does not hold a key.
        """
        return self.key_ring().ensure(self.key_name or self.name)

    def _provided_server_key(self) -> str:
        try:
            return self.key_ring().public(BUS_KEY)
        except BadKey as error:
            raise SettingsError(error.code, error.message, error.hint) from error

    def shown(self) -> str:
        """Return all settings in one line, secrets hidden."""
        return " ".join(f"{name}={_shown(name, getattr(self, name))}" for name in type(self).model_fields)


SettingsT = TypeVar("SettingsT", bound=VesselSettings)


def load_settings(settings_class: type[SettingsT], **given: Any) -> SettingsT:
    """Read settings from the environment and `batos.toml`; arguments go before both.

    Raises:
        SettingsError: unknown or out of bounds; one sentence names every fault.
    """
    try:
        return settings_class(**given)
    except ValidationError as error:
        faults = [
            f"{_fault_name(fault['loc'])}: {fault['msg']} (it is {_fault_input(fault)})" for fault in error.errors()
        ]
        raise SettingsError("settings_invalid", "; ".join(faults), "correct it and start again") from error
    except SourceError as error:
        raise SettingsError("settings_unreadable", f"{error}: {error.__cause__}") from error


def unusable_home(folder: Path) -> SettingsError:
    """Return the error that a folder cannot be written: another user's, or on a file system that is only read."""
    own = os.getuid()
    try:
        owner = folder.stat().st_uid
    except PermissionError:
        # Somebody else's folder stands above it.
        owner = -1
    if owner == own:
        return SettingsError(
            "home_read_only", f"{folder} cannot be written", "mount a volume there, or set BATOS_HOME to another folder"
        )
    whose = f"user {owner}'s" if owner >= 0 else "out of reach"
    return SettingsError(
        "home_foreign",
        f"{folder} is {whose}, and this process is user {own}",
        "let this user own the folder or volume, or set BATOS_HOME to another",
    )


class _Environment(EnvSettingsSource):
    """The environment, with names that nobody knows refused."""

    def __call__(self) -> dict[str, Any]:
        settings_class = self.settings_cls
        fields = settings_class.model_fields
        for name in sorted(os.environ):
            key = name.removeprefix(PREFIX).lower()
            if name.startswith(PREFIX) and _is_unknown(settings_class, key):
                raise _unknown(f"the environment's {name}", key, fields, lambda field: PREFIX + field.upper())
        return super().__call__()


class _TomlFiles(PydanticBaseSettingsSource):
    """`batos.toml` of the working directory and, over it, of the home."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        del field
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        values = self._read(Path.cwd() / SETTINGS_FILE)
        home = Path(self.current_state.get("home") or values.get("home") or "var").expanduser().absolute()
        if home != Path.cwd():
            over = self._read(home / SETTINGS_FILE)
            if "home" in over:
                raise SettingsError(
                    "settings_unknown",
                    f"{home / SETTINGS_FILE} sets home, which it is in itself",
                    "set BATOS_HOME, or home in the working directory's batos.toml",
                )
            values.update(over)
        return values

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except PermissionError:
            raise unusable_home(path.parent) from None
        except OSError as error:
            raise SettingsError("settings_unreadable", f"{path} cannot be read: {error.strerror}") from error
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError("settings_unreadable", f"{path} is not TOML: {error}") from error
        fields = self.settings_cls.model_fields
        values = {}
        for key, value in _flat(content):
            if _is_unknown(self.settings_cls, key):
                raise _unknown(f"{path}: {key}", key, fields, lambda field: field)
            if key in fields:
                values[key] = value
        return values


def _flat(content: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """Turn the table `[kernel]` into keys that begin with `kernel_`."""
    for key, value in content.items():
        if isinstance(value, dict) and key in SERVICES:
            yield from ((f"{key}_{inner}", inner_value) for inner, inner_value in value.items())
        else:
            yield key, value


def _is_unknown(settings_class: type[BaseSettings], key: str) -> bool:
    """Whether nobody can know this key: this class does not, and it is not another service's."""
    if key in settings_class.model_fields:
        return False
    owner = next((service for service in SERVICES if key.startswith(f"{service}_")), "")
    own = getattr(settings_class, "service", "")
    return owner in {"", own}


def _unknown(where: str, key: str, fields: Iterable[str], spelt: Any) -> SettingsError:
    near = difflib.get_close_matches(key, list(fields), n=1, cutoff=0.0)
    return SettingsError("settings_unknown", f"{where} is no setting", f"the nearest one is {spelt(near[0])}")


def _fault_name(location: tuple[int | str, ...]) -> str:
    return PREFIX + "_".join(str(part) for part in location).upper()


def _fault_input(fault: ErrorDetails) -> str:
    return repr(without_password(str(fault["input"])) if fault["loc"] == (IMAGE_URI,) else fault["input"])


def without_password(uri: str) -> str:
    """Return an image's address as people and logs may see it.

    Rather too much is hidden than too little: all between the first colon and the last `@`, however it is written, and
    what a parameter calls a password. `file` and `zeo` know no passwords. `batos.uvm`, which knows no settings, has the
    same.
    """
    scheme, found, rest = uri.partition("://")
    if not found or scheme in {"file", "zeo"}:
        return uri
    front, at, place = rest.rpartition("@")
    user, colon, secret = (front if at else rest).partition(":")
    if colon and (at or not _PORT.match(secret)):
        rest = f"{user}:{HIDDEN}{at}{place if at else ''}"
    return f"{scheme}://" + _SECRET_PARAMETER.sub(rf"\1{HIDDEN}", rest)


def _shown(name: str, value: Any) -> str:
    if isinstance(value, SecretStr):
        return HIDDEN if value.get_secret_value() else "''"
    if name == IMAGE_URI:
        value = without_password(value)
    return repr(str(value)) if isinstance(value, Path) else repr(value)
