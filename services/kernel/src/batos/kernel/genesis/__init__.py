"""What a new image is filled with, and the mission with which a mind first speaks."""

from batos.kernel.genesis.covenants import COVENANTS
from batos.kernel.genesis.personas import FACETS
from batos.kernel.genesis.seed import AUTHOR, GENESIS_MISSION_ID, GENESIS_MISSION_TEXT, GENESIS_WEAVER, seed
from batos.kernel.genesis.sources import method_sources
from batos.kernel.genesis.states import STATES

__all__ = [
    "AUTHOR",
    "COVENANTS",
    "FACETS",
    "GENESIS_MISSION_ID",
    "GENESIS_MISSION_TEXT",
    "GENESIS_WEAVER",
    "STATES",
    "method_sources",
    "seed",
]
