"""What stands in the image beside its objects and is read by several services: functions over a root mapping.

Every function works within its caller's transaction and never commits. What they return is plain and detached from
the image: it may cross threads and outlive the transaction.
"""

from batos.mind import adapters, archive, compatibility, datasets, log_memory, migrations, orders
from batos.mind.collections import create_collections
from batos.mind.errors import Corrupt, MindError, NotAllowed, NotFound, PositionMoved
from batos.mind.lobby import LOBBY_SLOTS, PERSONAS, lobby, persona, persona_slot, touch_organization
from batos.mind.organization import keep_organization, organized
from batos.uvm import Root

__all__ = [
    "LOBBY_SLOTS",
    "PERSONAS",
    "Corrupt",
    "MindError",
    "NotAllowed",
    "NotFound",
    "PositionMoved",
    "Root",
    "adapters",
    "archive",
    "compatibility",
    "create_collections",
    "datasets",
    "keep_organization",
    "lobby",
    "log_memory",
    "migrations",
    "orders",
    "organized",
    "persona",
    "persona_slot",
    "touch_organization",
]
