"""The Living Image: one universal persistent object, live methods, guardians, and the ways to open, read and change it.

with open_image("file:///var/lib/batos/live_image.fs") as image, image.transaction() as root:
    root["lobby"].greeting = "hello"
"""

from batos.uvm.blobs import read_blob, store_blob
from batos.uvm.data_guardian import DataGuardian, model_from_schema, validate
from batos.uvm.errors import (
    BadImageUri,
    BadSlotName,
    BelongsToVessel,
    BrokenMethod,
    CommitFateUnknown,
    Contention,
    CovenantBroken,
    ForeignClass,
    ImageInUse,
    ImageUnreachable,
    ImageUnusable,
    MessageNotUnderstood,
    NoImageYet,
    NoSuchMoment,
    NotStorable,
    ParentCycle,
    ReadOnly,
    SessionMisuse,
    TlsUnusable,
    Transient,
    UvmError,
)
from batos.uvm.identity_guardian import IdentityGuardian
from batos.uvm.image import Image, open_image
from batos.uvm.methods import LiveMethod, install_method, method_history, method_of, own_methods
from batos.uvm.objects import UvmObject, find, lineage, slots, understands
from batos.uvm.session import Root, Savepoint, Session
from batos.uvm.values import PersistentDict, PersistentList, PersistentSet, plain
from batos.uvm.vessel import BatOSUVM

__all__ = [
    "BadImageUri",
    "BadSlotName",
    "BatOSUVM",
    "BelongsToVessel",
    "BrokenMethod",
    "CommitFateUnknown",
    "Contention",
    "CovenantBroken",
    "DataGuardian",
    "ForeignClass",
    "IdentityGuardian",
    "Image",
    "ImageInUse",
    "ImageUnreachable",
    "ImageUnusable",
    "LiveMethod",
    "MessageNotUnderstood",
    "NoImageYet",
    "NoSuchMoment",
    "NotStorable",
    "ParentCycle",
    "PersistentDict",
    "PersistentList",
    "PersistentSet",
    "ReadOnly",
    "Root",
    "Savepoint",
    "Session",
    "SessionMisuse",
    "TlsUnusable",
    "Transient",
    "UvmError",
    "UvmObject",
    "find",
    "install_method",
    "lineage",
    "method_history",
    "method_of",
    "model_from_schema",
    "open_image",
    "own_methods",
    "plain",
    "read_blob",
    "slots",
    "store_blob",
    "understands",
    "validate",
]
