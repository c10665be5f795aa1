"""What happens, as it happens."""

from __future__ import annotations

from typing import Literal

from batos.protocol.messages.fleet import VesselCard
from batos.protocol.messages.inference import PromptLabel
from batos.protocol.messages.message import Message
from batos.protocol.messages.missions import MissionStatus, Usage


class StateEntered(Message, frozen=True, kw_only=True):
    """A cycle entered a state of the state machine. Topic `mission/<id>`."""

    mission_id: str
    cycle_id: str
    state: str
    persona: str


class FacetAsked(Message, frozen=True, kw_only=True):
    """A prompt went out. Topic `mission/<id>`."""

    label: PromptLabel
    adapter: str = ""


class TokenDelta(Message, frozen=True, kw_only=True):
    """Text as it is decoded; may be lost. Topic `mission/<id>`."""

    label: PromptLabel
    text: str


class FacetAnswered(Message, frozen=True, kw_only=True):
    """A prompt was answered. Topic `mission/<id>`."""

    label: PromptLabel
    usage: Usage
    duration_ms: int
    adapter: str = ""


class MissionEnded(Message, frozen=True, kw_only=True):
    """A mission ended; its record is committed. Topic `mission/<id>`."""

    status: MissionStatus


class Progress(Message, frozen=True, kw_only=True):
    """How far something slow is. Topic `progress/<what>/<id>`, for example `progress/forge/<order id>`."""

    what: str
    id: str
    stage: str
    fraction: float | None = None
    """0 to 1, or None where no end is known."""
    detail: str = ""


class VesselChanged(Message, frozen=True, kw_only=True):
    """A vessel came, became ready, drains or is gone. Published by the bus. Topic `fleet`."""

    card: VesselCard
    change: Literal["joined", "ready", "unready", "draining", "left", "lost"]
