"""What vessels say to each other: every body that may travel on the bus, as frozen tagged structs.

Growth rules (they keep old frames readable, see docs/protocol.md): a new field has a default, a field never changes its
type or meaning, a tag is never reused. Ids are 32 lower-case hexadecimal digits (UUIDv7) unless said otherwise; times
are seconds since the epoch; durations say their unit in their name.
"""

from __future__ import annotations

from batos.protocol.messages.care import (
    BackupView,
    ImageBackedUp,
    ImageBackup,
    ImageBackups,
    ImageFault,
    ImageLook,
    ImageLooked,
    ImagePack,
    ImagePacked,
    ImagePin,
    ImagePins,
    ImagePinsGet,
    ImageRestored,
    ImageUnpin,
    ImageVerified,
    ImageVerify,
    PinView,
)
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
from batos.protocol.messages.inspection import (
    ChangeView,
    DifferenceView,
    EntryView,
    ImageCompare,
    ImageHistory,
    ImageShow,
    ImageUpgrade,
    ImageUpgraded,
    InheritedView,
    MethodHistory,
    MethodInForce,
    MethodInstall,
    MethodRevert,
    MethodUpgrade,
    MethodVersions,
    MethodView,
    ObjectsCompared,
    PlaceHistory,
    PlaceView,
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
from batos.protocol.messages.migration import (
    ImageMigrate,
    ImageMigrated,
    MigrationView,
)
from batos.protocol.messages.missions import (
    LeftView,
    MissionAccepted,
    MissionList,
    Missions,
    MissionStatus,
    MissionSubmit,
    MissionUndo,
    MissionUndone,
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
    | ImageShow
    | ImageHistory
    | ImageCompare
    | MethodHistory
    | MethodInstall
    | MethodRevert
    | ImageUpgrade
    | ImageMigrate
    | MissionUndo
    | ImageBackup
    | ImageVerify
    | ImagePack
    | ImagePin
    | ImageUnpin
    | ImagePinsGet
    | ImageLook
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
    | PlaceView
    | PlaceHistory
    | MethodVersions
    | ObjectsCompared
    | MethodInForce
    | ImageUpgraded
    | ImageMigrated
    | MissionUndone
    | ImageBackedUp
    | ImageBackups
    | ImageRestored
    | ImageVerified
    | ImagePacked
    | ImagePins
    | ImageLooked
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
    "BackupView",
    "Cancel",
    "ChangeView",
    "ChatMessage",
    "Curate",
    "DatasetBuilt",
    "DifferenceView",
    "Drain",
    "Draining",
    "EngineDescribe",
    "EngineDescription",
    "EntryView",
    "ErrorReply",
    "Event",
    "FacetAnswered",
    "FacetAsked",
    "Goodbye",
    "Heartbeat",
    "HeartbeatAck",
    "Hello",
    "HelloWanted",
    "ImageBackedUp",
    "ImageBackup",
    "ImageBackups",
    "ImageCompare",
    "ImageFault",
    "ImageHistory",
    "ImageLook",
    "ImageLooked",
    "ImageMigrate",
    "ImageMigrated",
    "ImagePack",
    "ImagePacked",
    "ImagePin",
    "ImagePins",
    "ImagePinsGet",
    "ImageRestored",
    "ImageShow",
    "ImageUnpin",
    "ImageUpgrade",
    "ImageUpgraded",
    "ImageVerified",
    "ImageVerify",
    "Infer",
    "Inferred",
    "InheritedView",
    "LeftView",
    "LogChunk",
    "LogRead",
    "Message",
    "MethodHistory",
    "MethodInForce",
    "MethodInstall",
    "MethodRevert",
    "MethodUpgrade",
    "MethodVersions",
    "MethodView",
    "MigrationView",
    "MissionAccepted",
    "MissionEnded",
    "MissionList",
    "MissionStatus",
    "MissionSubmit",
    "MissionUndo",
    "MissionUndone",
    "MissionWait",
    "Missions",
    "ObjectsCompared",
    "OrderCreate",
    "OrderGet",
    "OrderStatus",
    "PersonaGet",
    "PersonaView",
    "PinView",
    "Ping",
    "PlaceHistory",
    "PlaceView",
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
