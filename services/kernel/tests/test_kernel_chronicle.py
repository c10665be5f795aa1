"""What a thought tells, each line once."""

from __future__ import annotations

import sys
from typing import Any

from batos.kernel.chronicle import Chronicle
from batos.protocol import EventType


def test_a_line_is_known_again_and_not_kept(mind: Any) -> None:
    """A thought that is thought again tells nothing twice; what it told before is remembered in a few bytes."""
    chronicle = Chronicle(mind.accept("Suggest a name for a small boat."), mind.told, mind.told)
    lines = [{"number": number, "text": "x" * 100_000} for number in range(20)]
    for _ in range(3):
        chronicle.begin("")
        for detail in lines:
            chronicle.record(EventType.ARTIFACT_GENERATED, detail=detail)
    chronicle.record(EventType.ARTIFACT_GENERATED, detail={"number": 20})
    told = [fields["detail"]["number"] for fields in mind.told.of(EventType.ARTIFACT_GENERATED)]
    assert told == list(range(21))
    assert sum(map(sys.getsizeof, chronicle._told)) < 2000
