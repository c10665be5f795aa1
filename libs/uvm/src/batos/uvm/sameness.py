"""Whether two states of records are the same."""

from __future__ import annotations

import pickle
from typing import Any

from persistent import Persistent


def same(one: Any, other: Any) -> bool:
    """Whether two states, or parts of them, are the same: values of the same kinds, and the very same objects."""
    if type(one) is not type(other) or isinstance(one, Persistent):
        return one is other
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, set | frozenset):
        return bool(one == other)
    return pickle.dumps(one) == pickle.dumps(other)  # 1 is not 1.0 here, and a NaN is itself
