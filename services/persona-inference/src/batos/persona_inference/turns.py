"""What a message's text may not do: pretend to be a turn of its own.

Engines render all messages into one text and tokenize it with the model's control tokens recognised, so `<|im_end|>` in
a user's text would end the user's turn. Such tokens are broken by a space before an engine sees them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from batos.protocol import ChatMessage

CANDIDATES = (
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "<|message|>",
    "<|channel|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "[INST]",
    "[/INST]",
    "<s>",
    "</s>",
    "<bos>",
    "<eos>",
)
"""What model families mark turns with; an engine finds out which of them are single tokens of its model."""


class ControlTokens:
    """Breaks a model's control tokens."""

    def __init__(self, tokens: Iterable[str]) -> None:
        """Begin.

        Args:
            tokens: the model's control tokens, each at least two characters.
        """
        self.tokens = tuple(sorted(set(tokens)))
        self._pattern = re.compile("|".join(map(re.escape, self.tokens))) if self.tokens else None

    def broken(self, text: str) -> str:
        """Return the text with every control token split after its first character."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: f"{found.group()[0]} {found.group()[1:]}", text)

    def turns(self, messages: Iterable[ChatMessage]) -> list[dict[str, str]]:
        """Return messages as engines take them."""
        return [{"role": message.role, "content": self.broken(message.content)} for message in messages]
