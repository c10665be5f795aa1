"""Secrets that must not reach the log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batos.kernel.redaction import Redactor, redaction_key

REDACTOR = Redactor(b"k" * 32)
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow+/=\nabc123\n-----END RSA PRIVATE KEY-----"
SECRETS = [
    ("use sk-abcdefghijklmnop1234 please", "sk-abcdefghijklmnop1234"),
    ("ghp_" + "a1" * 18, "ghp_" + "a1" * 18),
    ("AKIAABCDEFGHIJKLMNOP", "AKIAABCDEFGHIJKLMNOP"),
    ("Authorization: Bearer abcdef0123456789.xyz", "abcdef0123456789.xyz"),
    ("postgresql://batos:hunter2@db/image", "hunter2"),
    ("key: " + PEM + " end", "MIIEow"),
    ('{"api_key": "q9w8e7r6t5"}', "q9w8e7r6t5"),
    ("password=correct-horse", "correct-horse"),
    ("line\\nsk-abcdefghijklmnop1234", "sk-abcdefghijklmnop1234"),
    ("eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl", "c2lnbmF0dXJl"),
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_secret_is_replaced(text: str, secret: str) -> None:
    """A secret is gone from the text, and a placeholder says what stood there."""
    cleaned = REDACTOR.text(text)
    assert secret not in cleaned
    assert "[redacted " in cleaned


def test_surroundings_stay() -> None:
    """Only the secret itself is taken out."""
    assert REDACTOR.text("to postgresql://me:pw@host/db now").startswith("to postgresql://me:[redacted url_password ")
    assert REDACTOR.text("to postgresql://me:pw@host/db now").endswith("@host/db now")
    assert REDACTOR.text(f"a {PEM} b").endswith("] b")


def test_same_secret_same_placeholder() -> None:
    """A placeholder is stable, and differs for another secret or key."""
    one = REDACTOR.text("sk-abcdefghijklmnop1234")
    assert REDACTOR.text("again: sk-abcdefghijklmnop1234") == f"again: {one}"
    assert REDACTOR.text("sk-abcdefghijklmnop1235") != one
    assert Redactor(b"other" * 8).text("sk-abcdefghijklmnop1234") != one
    assert REDACTOR.text(one) == one


@pytest.mark.parametrize(
    "text", ["Plan a small garden.", "the key to max_tokens: 256", "https://example.org:8080/a@b", "token by token"]
)
def test_ordinary_text_stays(text: str) -> None:
    """What is no secret is left as it is."""
    assert REDACTOR.text(text) == text


def test_json_stays_json() -> None:
    """A prompt is a JSON document before and after."""
    document = json.dumps([{"role": "user", "content": f'say "x"\n{PEM}\npassword: "correct-horse"'}])
    cleaned = json.loads(REDACTOR.json_text(document))
    assert "MIIEow" not in cleaned[0]["content"]
    assert "correct-horse" not in cleaned[0]["content"]
    assert REDACTOR.json_text("no json: password=correct-horse").startswith("no json: password=[redacted")


def test_nested_values() -> None:
    """Texts are found however deep they stand."""
    cleaned = REDACTOR.value({"a": ["sk-abcdefghijklmnop1234", 3], "b": {"c": "plain"}})
    assert cleaned["a"][0].startswith("[redacted")
    assert cleaned["a"][1] == 3
    assert cleaned["b"] == {"c": "plain"}


def test_sets_and_keys() -> None:
    """A secret is found in a set and in the key of a dict, too; what is left can still be told apart."""
    secret, other = "sk-abcdefghijklmnop1234", "ghp_" + "a1" * 18
    cleaned = REDACTOR.value({secret: 1, other: 2, 3: {secret, "plain"}, "frozen": [frozenset({secret})]})
    assert secret not in str(cleaned)
    assert other not in str(cleaned)
    placeholder = REDACTOR.text(secret)
    assert set(cleaned) == {placeholder, REDACTOR.text(other), 3, "frozen"}
    assert sorted(cleaned[3]) == sorted([placeholder, "plain"])
    assert cleaned["frozen"] == [[placeholder]]


def test_key_is_made_once(tmp_path: Path) -> None:
    """The key is made at the first call, readable by its owner only, and the same afterwards."""
    path = tmp_path / "keys" / "redaction.key"
    first = redaction_key(path)
    assert redaction_key(path) == first
    assert len(first) == 32
    assert path.stat().st_mode & 0o777 == 0o600
