"""persona-inference: the vessel that turns prompts into answers, over one engine, with the adapters of the image.

What engines are stands in `engine`, how they are chosen in `choice`; the vessel itself in `vessel`. The embedded
engine's child process imports this package, too: nothing heavy is imported here.
"""

from __future__ import annotations

from batos.persona_inference.engine import (
    Answer,
    Engine,
    EngineFacts,
    EngineHealth,
    OnText,
    Question,
    Report,
    TokenCounts,
)
from batos.persona_inference.errors import (
    AdapterNotLoaded,
    AdapterRefused,
    ContextExceeded,
    EngineBusy,
    EngineFailed,
    EngineLost,
    InferenceError,
    RequestInvalid,
    Transient,
    WrongWeights,
)

__all__ = [
    "AdapterNotLoaded",
    "AdapterRefused",
    "Answer",
    "ContextExceeded",
    "Engine",
    "EngineBusy",
    "EngineFacts",
    "EngineFailed",
    "EngineHealth",
    "EngineLost",
    "InferenceError",
    "OnText",
    "Question",
    "Report",
    "RequestInvalid",
    "TokenCounts",
    "Transient",
    "WrongWeights",
]
