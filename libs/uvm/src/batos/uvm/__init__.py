"""The Living Image: one universal persistent object, live methods, guardians, and the ways to open, read and change it.

with open_image("file:///var/lib/batos/live_image.fs") as image, image.transaction() as root:
    root["lobby"].greeting = "hello"
"""

from batos.uvm.blobs import read_blob, store_blob
from batos.uvm.commit_errors import DiskFull, LockHeldTooLong
from batos.uvm.comparing import Comparison, Difference, ancestor_of, compare
from batos.uvm.compiling import host_needed
from batos.uvm.data_guardian import DataGuardian, model_from_schema, validate
from batos.uvm.errors import (
    BadImageUri,
    BadMoment,
    BadPath,
    BadSlotName,
    BelongsToVessel,
    BrokenMethod,
    CommitFateUnknown,
    Contention,
    CovenantBroken,
    ForeignClass,
    ImageInUse,
    ImageRefused,
    ImageUnreachable,
    ImageUnusable,
    MessageNotUnderstood,
    NoAncestor,
    NoImageYet,
    NoSuchMoment,
    NoSuchVersion,
    NotStorable,
    PackUnderWay,
    ParentCycle,
    ReadOnly,
    SessionMisuse,
    TlsUnusable,
    Transient,
    UvmError,
)
from batos.uvm.identity_guardian import IdentityGuardian
from batos.uvm.image import Image, note_packed, open_image
from batos.uvm.methods import LiveMethod, install_method, method_history, method_of, own_methods, revert_method
from batos.uvm.moments import moment_of, reached, tid_at
from batos.uvm.objects import UvmObject, find, lineage, slots, understands
from batos.uvm.paths import records_of
from batos.uvm.persistence_guardian import PersistenceGuardian
from batos.uvm.places import Place, place_at
from batos.uvm.portrait import Change, Entry, Inherited, Portrait, changes_of, portray
from batos.uvm.sandbox_errors import (
    Fault,
    LimitReached,
    MethodFailed,
    MethodRefused,
    NoSandbox,
    SandboxBusy,
    SandboxError,
    SandboxMisuse,
    SourceRefused,
    WorkerLost,
)
from batos.uvm.session import Root, Savepoint, Session, changed_in, seen_tid
from batos.uvm.undoing import Left, Undone, undo
from batos.uvm.values import PersistentDict, PersistentList, PersistentSet, plain
from batos.uvm.vessel import BatOSUVM

__all__ = [
    "BadImageUri",
    "BadMoment",
    "BadPath",
    "BadSlotName",
    "BatOSUVM",
    "BelongsToVessel",
    "BrokenMethod",
    "Change",
    "CommitFateUnknown",
    "Comparison",
    "Contention",
    "CovenantBroken",
    "DataGuardian",
    "Difference",
    "DiskFull",
    "Entry",
    "Fault",
    "ForeignClass",
    "IdentityGuardian",
    "Image",
    "ImageInUse",
    "ImageRefused",
    "ImageUnreachable",
    "ImageUnusable",
    "Inherited",
    "Left",
    "LimitReached",
    "LiveMethod",
    "LockHeldTooLong",
    "MessageNotUnderstood",
    "MethodFailed",
    "MethodRefused",
    "NoAncestor",
    "NoImageYet",
    "NoSandbox",
    "NoSuchMoment",
    "NoSuchVersion",
    "NotStorable",
    "PackUnderWay",
    "ParentCycle",
    "PersistenceGuardian",
    "PersistentDict",
    "PersistentList",
    "PersistentSet",
    "Place",
    "Portrait",
    "ReadOnly",
    "Root",
    "SandboxBusy",
    "SandboxError",
    "SandboxMisuse",
    "Savepoint",
    "Session",
    "SessionMisuse",
    "SourceRefused",
    "TlsUnusable",
    "Transient",
    "Undone",
    "UvmError",
    "UvmObject",
    "WorkerLost",
    "ancestor_of",
    "changed_in",
    "changes_of",
    "compare",
    "find",
    "host_needed",
    "install_method",
    "lineage",
    "method_history",
    "method_of",
    "model_from_schema",
    "moment_of",
    "note_packed",
    "open_image",
    "own_methods",
    "place_at",
    "plain",
    "portray",
    "reached",
    "read_blob",
    "records_of",
    "revert_method",
    "seen_tid",
    "slots",
    "store_blob",
    "tid_at",
    "understands",
    "undo",
    "validate",
]
