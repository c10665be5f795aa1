"""The vessel that trains and measures adapters."""

from batos.forge_trainer.errors import ChildFailed, ChildSilent, ForgeError
from batos.forge_trainer.gate import Judgement, judge
from batos.forge_trainer.settings import ForgeSettings
from batos.forge_trainer.vessel import ForgeVessel

__all__ = ["ChildFailed", "ChildSilent", "ForgeError", "ForgeSettings", "ForgeVessel", "Judgement", "judge"]
