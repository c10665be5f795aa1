"""What may go wrong in curation."""

from __future__ import annotations


class CuratorError(Exception):
    """The root of the curator's own errors. None of them goes away by trying again.

    Attributes:
        code: stable, for programs, for example `dataset_too_small`.
        message: what is wrong.
        hint: what to do about it; may be empty.
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(code, message, hint)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class DatasetTooSmall(CuratorError):  # noqa: N818 - it says what the data set is
    """Not enough different answers to learn from and to measure on.

    Attributes:
        counts: how many answers were found and left out, by reason.
        needed: rows that are needed.
    """

    def __init__(self, persona: str, counts: dict[str, int], needed: int) -> None:
        super().__init__(
            "dataset_too_small",
            f"{persona} has {counts.get('rows', 0)} different answers to learn from, {needed} are needed"
            f" ({_listed(counts)})",
            "ask more missions, with different texts, and run the forge again",
        )
        self.counts = counts
        self.needed = needed


class AnswersTooAlike(CuratorError):  # noqa: N818 - it says what the answers are
    """The answers cannot be divided into two sides that have nothing in common.

    Attributes:
        counts: how many answers were found and left out, by reason.
        held_out: rows that have to be held out.
    """

    def __init__(self, persona: str, counts: dict[str, int], held_out: int) -> None:
        super().__init__(
            "dataset_too_small",
            f"the {counts['rows']} answers of {persona} are near-duplicates or come from too few missions:"
            f" {held_out} cannot be held out without their like on the other side ({_listed(counts)})",
            "ask more missions, with different texts, and run the forge again",
        )
        self.counts = counts
        self.held_out = held_out


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{reason}: {number}" for reason, number in counts.items())
