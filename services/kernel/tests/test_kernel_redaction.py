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
    ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCY"),
    ("export GITHUB_TOKEN=abcdefgh1234", "abcdefgh1234"),
    ("https://host/db?token=abc1&page=2", "abc1"),
    ("accessToken: abcdefgh1234", "abcdefgh1234"),
    ("secret: q9w8e7r6", "q9w8e7r6"),
    ("pwd=hunter2", "hunter2"),
    ("PASSWORD=p@ss!word#1", "p@ss!word#1"),
    ("passwd: 'correct horse battery'", "horse"),
    ('password: "it\'s" and more', "it's"),
    ('token = "ab"', "ab"),
    (r"say {\"password\": \"a b\" c", "a b"),
    ("Authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    ("sk_live_abcdefghijklmnop1234", "sk_live_abcdefghijklmnop1234"),
    ("npm_abcdefghijklmnopqrstuvwxyz0123456789", "npm_abcdefghijklmnopqrstuvwxyz0123456789"),
    ("sk-abcdefghijklmnopqrst", "sk-abcdefghijklmnopqrst"),
    ("sk-proj-Abc_def-ghijklmnopq", "sk-proj-Abc_def-ghijklmnopq"),
    ("authorization: token abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrstuvwxyz"),
    ('{"pass\\u0077ord": "hunter2xx"}', "hunter2xx"),
    ('{"n": NaN, "password": ["hunter2xx"]}', "hunter2xx"),
    ('{"n": NaN, "db": [{"api_key": {"of": "hunter2xx"}}]}', "hunter2xx"),
    ('{"n": 1e400, "password": ["hunter2xx"], "half": "\\ud83d"}', "hunter2xx"),
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
    "text",
    [
        "Plan a small garden.",
        "the key to max_tokens: 256",
        "https://example.org:8080/a@b",
        "token by token",
        "The secret: patience, and a little salt.",
        "the secret: practice every day",
        "A token: something small that stands for something large.",
        "my password: none",
        "max_tokens=256, token=512, top_p=0.9",
        "secret=1234567",
        "PWD=/home/bats and pwd = /srv/data",
        "token = tokens[0]; secret = load(name)",
        "eos_token='<|im_end|>' and stop_token: '\\n'",
        '{"eos_token": "<|im_end|>", "max_tokens": 5}',
        "What is the key: is it under the mat?",
        "keyboard=qwerty-layout, monkey: banana-lover1",
        "Basic understanding of tides",
        "authorization: basic research",
        "Authorization: Basic Principles.",
        "sk-learn-is-a-nice-library-for-ml",
        "risk-sk-averse-portfolio-managers",
        '[{"password": 12345678}]',
        '{"password": 12345678.25, "n": NaN}',
        "The secretary: Mr. Smith1234",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    """What is no secret is left as it is."""
    assert REDACTOR.text(text) == text


NAMES = ["password", "api_key", "client_secret", "clientSecret", "token", "db.passwd", "Authorization", "AWSSecretKey"]
NAMES += ["accessToken", "refresh-token", "PRIVATE_KEY", "APIKey", "secrets", "credentials", "x-api-key"]
NAMES += ["dbpassword", "mytoken", "userapikey", "my secret"]
NO_NAMES = ["max_tokens", "prompt_tokens", "prompt_hash", "key", "keyboard", "tokenizer", "eos_token", "next_token"]
NO_NAMES += ["eosToken", "token_count", "passwordless", "author", "secretary", "public_key", "adapter_hash", "", "7"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_under_the_name_of_a_secret_is_one(name: str) -> None:
    """However short it is, and in whatever it stands; what is no text stays."""
    cleaned = REDACTOR.value({name: "abc", "deep": [{name: ["abc", {"of": "abc", "n": 3}, None, True, 1.5, ""]}]})
    hidden = cleaned[name]
    assert hidden.startswith("[redacted named_secret ")
    assert cleaned["deep"] == [{name: [hidden, {"of": hidden, "n": 3}, None, True, 1.5, ""]}]


@pytest.mark.parametrize("name", NO_NAMES)
def test_other_names_hide_nothing(name: str) -> None:
    """Counts, hashes and the marks of a model are read in the log."""
    assert REDACTOR.value({name: "abc", "n": {name: 7}}) == {name: "abc", "n": {name: 7}}


@pytest.mark.parametrize("secret", ["hunter22longer", "a b c", "sk-abcdefghijklmnop1234", 'say "x"\n', "ü"])
def test_a_document_and_its_content_hide_the_same(secret: str) -> None:
    """A secret has one placeholder, as data, as a document, and in a text within another one."""
    data = {"db": {"password": secret}, "n": 1}
    cleaned = REDACTOR.value(data)
    assert secret not in str(cleaned)
    document = REDACTOR.text(json.dumps(data))
    assert json.loads(document) == cleaned
    within = json.loads(REDACTOR.text(json.dumps([{"content": json.dumps(data)}])))
    assert json.loads(within[0]["content"]) == cleaned


def test_a_document_without_secrets_is_left_as_it_is() -> None:
    """To the last blank; names that stand twice hide nothing from the rules."""
    document = '{ "token" : 5,  "goal": "a key" }'
    assert REDACTOR.text(document) == document
    assert "hunter2" not in REDACTOR.text('{"password": "hunter2", "password": 5}')
    assert "hunter2" not in REDACTOR.text('{"password": "hunter2", cut off')


HOSTILE = [
    'password="' * 20_000,
    'password=\\"' * 20_000,
    "token: a" * 20_000,
    "secret=" + "(" * 100_000,
    "token=aaaaaaa(" * 20_000,
    'password: "' + '\\"' * 50_000,
    "authorization: basic " * 10_000,
    "-----BEGIN PRIVATE KEY-----" * 10_000,
    ("eyJ" + "a" * 8 + ".") * 10_000,
    "[" * 100_000 + "token",
    '{"token":' * 900,
    "a" * 300_000 + "token",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:12])
def test_no_text_takes_long(text: str) -> None:
    """The work grows with the text's length, not with its square: else this would not come to its end."""
    assert REDACTOR.text(text)


def test_json_stays_json() -> None:
    """A prompt is a JSON document before and after."""
    document = json.dumps([{"role": "user", "content": f'say "x"\n{PEM}\npassword: "correct-horse"'}])
    cleaned = json.loads(REDACTOR.text(document))
    assert "MIIEow" not in cleaned[0]["content"]
    assert "correct-horse" not in cleaned[0]["content"]
    assert REDACTOR.text("no json: password=correct-horse").startswith("no json: password=[redacted")


@pytest.mark.parametrize("more", ["NaN", "1e400", "123456789012345678901234567890", '"\\ud83d"'])
def test_what_python_reads_beyond_the_standard_is_a_document_too(more: str) -> None:
    """Its names count, and it can be read as before."""
    cleaned = json.loads(REDACTOR.text(f'{{"more": {more}, "password": ["a b"], "token": 12345678}}'))
    assert cleaned["password"][0].startswith("[redacted named_secret ")
    assert cleaned["token"] == 12345678
    assert "redacted" not in str(cleaned["more"])


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
