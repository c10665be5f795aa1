"""The guardians, each with one rule: what a cycle wrote loses nothing, data keeps its covenant, the mind stays one.

`persistence` reads a cycle's source before it is installed; `bounds`, `grammar`, `lost_writes`, `at_once`, `absent`
and `not_data` each find one kind of fault for it, and `imports` tells what a name stands for. `data` holds data against
its schema, `identity` an organization against what must outlive every change of it.
"""

from batos.uvm.guardians.data import DataGuardian, model_from_schema, validate
from batos.uvm.guardians.identity import ACTORS, COVENANT, IdentityGuardian
from batos.uvm.guardians.persistence import PersistenceGuardian, capabilities_of, faults

__all__ = [
    "ACTORS",
    "COVENANT",
    "DataGuardian",
    "IdentityGuardian",
    "PersistenceGuardian",
    "capabilities_of",
    "faults",
    "model_from_schema",
    "validate",
]
