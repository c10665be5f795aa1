"""The gate: has the candidate won over the base by enough?"""

from __future__ import annotations

import math
from typing import NamedTuple


class Judgement(NamedTuple):
    """What the gate says."""

    passed: bool
    gain: float
    """By how much the candidate's loss is lower than the base's, relative to the base's; negative if it is higher."""
    verdict: str


def judge(*, base_loss: float, candidate_loss: float, margin: float) -> Judgement:
    """Compare two held-out losses.

    Args:
        base_loss: of the base model, in nats a token.
        candidate_loss: of the candidate on the same tokens.
        margin: relative gain that is asked for, 0 or more.
    """
    if not (math.isfinite(base_loss) and math.isfinite(candidate_loss)):
        return Judgement(False, 0.0, f"not measurable: base loss {base_loss}, candidate loss {candidate_loss}")
    gain = (base_loss - candidate_loss) / base_loss if base_loss > 0 else 0.0
    figures = f"held-out loss {candidate_loss:.4f} against {base_loss:.4f} of the base"
    change = f"{abs(gain):.1%} {'lower' if gain >= 0 else 'higher'}"
    if gain >= margin and gain > 0:
        return Judgement(True, gain, f"passed: {figures}, {change}, {margin:.1%} asked for")
    return Judgement(False, gain, f"refused: {figures}, {change}, {margin:.1%} lower asked for")
