"""Methods of containers and texts, by what they do."""

from __future__ import annotations

IN_PLACE = frozenset({
    "add", "append", "appendleft", "clear", "difference_update", "discard", "extend", "extendleft", "insert",
    "intersection_update", "pop", "popitem", "popleft", "remove", "reverse", "rotate", "setdefault", "sort", "subtract",
    "symmetric_difference_update", "update",
})  # fmt: skip
"""They change what they are called on."""
TAKING = frozenset({"add", "append", "appendleft", "insert", "setdefault"})
"""They take in what they are given."""
TAKING_ALL = frozenset({"extend", "extendleft", "update", "symmetric_difference_update"})
"""They take in what stands in what they are given."""
GIVING = frozenset({"get", "pop", "popitem", "popleft", "setdefault"})
"""They answer something that stands in it, or another argument than the first."""
VIEWS = frozenset({
    "copy", "difference", "elements", "intersection", "keys", "symmetric_difference", "union", "values",
})  # fmt: skip
"""They answer a new container of what stands in it, and in what they are given."""
PAIRS = frozenset({"items", "most_common"})
"""They answer tuples of what stands in it."""
TEXTS = frozenset({
    "capitalize", "casefold", "center", "count", "decode", "encode", "endswith", "expandtabs", "find", "format", "hex",
    "index", "isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "isdisjoint", "isidentifier", "islower",
    "isnumeric", "isprintable", "isspace", "issubset", "issuperset", "istitle", "isupper", "join", "ljust", "lower",
    "lstrip", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rjust", "rstrip", "startswith", "strip",
    "swapcase", "title", "upper", "zfill",
})  # fmt: skip
"""They answer texts, numbers and truths."""
CUTTING = frozenset({"partition", "rpartition", "rsplit", "split", "splitlines"})
"""They answer new lists of texts."""
BUILT_IN = IN_PLACE | GIVING | VIEWS | PAIRS | TEXTS | CUTTING
"""All of them: what else is called on something may be a message."""
