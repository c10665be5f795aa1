"""The Architect's terminal and the `batos` command."""

from __future__ import annotations
