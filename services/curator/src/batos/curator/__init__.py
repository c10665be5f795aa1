"""The vessel that turns the log into memory and data sets."""

from batos.curator.errors import AnswersTooAlike, CuratorError, DatasetTooSmall
from batos.curator.settings import CuratorSettings
from batos.curator.vessel import CuratorVessel

__all__ = ["AnswersTooAlike", "CuratorError", "CuratorSettings", "CuratorVessel", "DatasetTooSmall"]
