"""What vessels say to each other: every body that may travel on the bus, as frozen tagged structs.

Growth rules (they keep old frames readable, see docs/protocol.md): a new field has a default, a field never changes its
type or meaning, a tag is never reused. Ids are 32 lower-case hexadecimal digits (UUIDv7) unless said otherwise; times
are seconds since the epoch; durations say their unit in their name.
"""

from __future__ import annotations

from batos.protocol.messages.events import (
    FacetAnswered,
    FacetAsked,
    MissionEnded,
    Progress,
    StateEntered,
    TokenDelta,
    VesselChanged,
)
from batos.protocol.messages.fleet import (
    AbandonSuccessor,
    Cancel,
    Drain,
    Draining,
    Goodbye,
    Heartbeat,
    HeartbeatAck,
    Hello,
    HelloWanted,
    Ping,
    Plank,
    Pong,
    Roll,
    Rolled,
    Roster,
    RosterGet,
    SpawnSuccessor,
    Subscribed,
    SuccessorAbandoned,
    SuccessorSpawned,
    VesselCard,
)
from batos.protocol.messages.inference import (
    AdapterLoad,
    AdaptersLoaded,
    AdapterUnload,
    ChatMessage,
    EngineDescribe,
    EngineDescription,
    Infer,
    Inferred,
    PromptLabel,
    Sampling,
    Tokenize,
    Tokenized,
)
from batos.protocol.messages.learning import (
    AdapterBound,
    AdapterPromote,
    AdapterRollback,
    Curate,
    DatasetBuilt,
    LogChunk,
    LogRead,
    OrderCreate,
    OrderGet,
    OrderStatus,
)
from batos.protocol.messages.message import (
    ErrorReply,
    Message,
)
from batos.protocol.messages.missions import (
    MissionAccepted,
    MissionList,
    Missions,
    MissionStatus,
    MissionSubmit,
    MissionWait,
    PersonaGet,
    PersonaView,
    Usage,
)

Request = (
    RosterGet
    | Ping
    | Drain
    | Roll
    | SpawnSuccessor
    | AbandonSuccessor
    | MissionSubmit
    | MissionWait
    | MissionList
    | PersonaGet
    | Infer
    | EngineDescribe
    | Tokenize
    | AdapterLoad
    | AdapterUnload
    | LogRead
    | Curate
    | OrderCreate
    | OrderGet
    | AdapterPromote
    | AdapterRollback
)
Reply = (
    Roster
    | Pong
    | Draining
    | Rolled
    | SuccessorSpawned
    | SuccessorAbandoned
    | MissionAccepted
    | MissionStatus
    | Missions
    | PersonaView
    | Inferred
    | EngineDescription
    | Tokenized
    | AdaptersLoaded
    | LogChunk
    | DatasetBuilt
    | OrderStatus
    | AdapterBound
)
Event = StateEntered | FacetAsked | TokenDelta | FacetAnswered | MissionEnded | Progress | VesselChanged

__all__ = [
    "AbandonSuccessor",
    "AdapterBound",
    "AdapterLoad",
    "AdapterPromote",
    "AdapterRollback",
    "AdapterUnload",
    "AdaptersLoaded",
    "Cancel",
    "ChatMessage",
    "Curate",
    "DatasetBuilt",
    "Drain",
    "Draining",
    "EngineDescribe",
    "EngineDescription",
    "ErrorReply",
    "Event",
    "FacetAnswered",
    "FacetAsked",
    "Goodbye",
    "Heartbeat",
    "HeartbeatAck",
    "Hello",
    "HelloWanted",
    "Infer",
    "Inferred",
    "LogChunk",
    "LogRead",
    "Message",
    "MissionAccepted",
    "MissionEnded",
    "MissionList",
    "MissionStatus",
    "MissionSubmit",
    "MissionWait",
    "Missions",
    "OrderCreate",
    "OrderGet",
    "OrderStatus",
    "PersonaGet",
    "PersonaView",
    "Ping",
    "Plank",
    "Pong",
    "Progress",
    "PromptLabel",
    "Reply",
    "Request",
    "Roll",
    "Rolled",
    "Roster",
    "RosterGet",
    "Sampling",
    "SpawnSuccessor",
    "StateEntered",
    "Subscribed",
    "SuccessorAbandoned",
    "SuccessorSpawned",
    "TokenDelta",
    "Tokenize",
    "Tokenized",
    "Usage",
    "VesselCard",
    "VesselChanged",
]
