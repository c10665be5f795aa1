"""What would only end a call is told with its line before it is installed, and with what to write instead."""

from __future__ import annotations

import pytest

from batos.uvm.guardians import faults

CAPABILITIES = 'CAPABILITIES = {"self": {"reads": ["d", "n"], "sets": ["n"]}, "arguments": {"sends": ["items"]}}\n'

REFUSED = [
    ("def m(self):\n    return self.d.keys()\n", "not-data", 3, "list(self.d.keys())"),
    ("def m(self, d):\n    return {'a': [d.values()]}\n", "not-data", 3, "list(d.values())"),
    ("def m(self, d):\n    return d.keys() if d else None\n", "not-data", 3, "list(d.keys())"),
    ("def m(self):\n    self.set('n', self.d.values())\n", "not-data", 3, "list(self.d.values())"),
    ("def m(self):\n    self.set('n', range(3))\n", "not-data", 3, "list(range(...))"),
    ("def m(self, other):\n    other.send('take', value=range(3))\n", "not-data", 3, "list(range(...))"),
    ("import re\n\ndef m(self):\n    return re.match('a', 'b')\n", "not-data", 5, "bool(...)"),
    ("import re as r\n\ndef m(self):\n    return r.compile('a')\n", "not-data", 5, "keep its text"),
    ("from re import search\n\ndef m(self):\n    return search('a', 'b')\n", "not-data", 5, "bool(...)"),
    ("def f(x):\n    return x\n\ndef m(self):\n    return {'f': f}\n", "not-data", 6, "a function is no data"),
    ("def m(self):\n    return lambda x: x\n", "not-data", 3, "a function is no data"),
    ("def m(self):\n    self.set('n', [lambda x: x])\n", "not-data", 3, "a function is no data"),
    ("from datetime import datetime\n\ndef m(self):\n    return str(datetime.now())\n", "outside", 5, "no clock"),
    ("import datetime as dt\n\ndef m(self):\n    return str(dt.datetime.utcnow())\n", "outside", 5, "no clock"),
    ("from datetime import date\n\ndef m(self):\n    return str(date.today())\n", "outside", 5, "no clock"),
    ("import statistics\n\ndef m(self):\n    pass\n", "import", 2, "sum(values) / len(values)"),
    ("from random import choice\n\ndef m(self):\n    pass\n", "import", 2, "as an argument"),
    ("import time\n\ndef m(self):\n    pass\n", "import", 2, "no clock here: take the time as an argument"),
    (
        "import functools\n\n@functools.lru_cache(9)\ndef f(x): return x\n\ndef m(self): pass\n",
        "decorator",
        4,
        "in a dict",
    ),
]
PASSED = [
    "class A:\n    def keys(self):\n        return [1]\n\ndef m(self):\n    return A().keys()\n",
    "class A:\n    def set(self, x):\n        self.x = list(x)\n\ndef m(self):\n    A().set(range(3))\n",
    "class A:\n    def now(self):\n        return 3\n\ndef m(self):\n    datetime = A()\n    return datetime.now()\n",
    "def m(self, other):\n    return other.items()\n",
    "def m(self, d):\n    def f():\n        return d.keys()\n    return sorted(f())\n",
    "def m(self):\n    def f():\n        return lambda x: x + 1\n    return f()(2)\n",
    "def m(self):\n    return list(self.d.keys())\n",
    "def f():\n    return 1\n\ndef m(self, f):\n    return f\n",
    "def m(self, range):\n    return range(3)\n",
    "import re\n\ndef m(self):\n    return bool(re.match('a', 'b'))\n",
    "from datetime import date\n\ndef m(self, today):\n    return date.fromisoformat(today).isoformat()\n",
]


@pytest.mark.parametrize(("source", "rule", "line", "told"), REFUSED)
def test_what_would_end_every_call_is_refused_with_its_line(source: str, rule: str, line: int, told: str) -> None:
    """And the sentence says what to write instead."""
    (fault,) = faults("m", CAPABILITIES + source)
    assert (fault.rule, fault.line) == (rule, line)
    assert told in fault.detail


@pytest.mark.parametrize("source", PASSED)
def test_what_only_looks_like_it_passes(source: str) -> None:
    """Messages and classes of one's own answer as they like, and what stays inside the method may be anything."""
    assert not faults("m", CAPABILITIES + source)
