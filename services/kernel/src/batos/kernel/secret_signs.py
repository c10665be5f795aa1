"""By what a secret is known: how it looks, what stands before it, or the name under which it is kept."""

from __future__ import annotations

import re
from functools import lru_cache

NAMED = "named_secret"
"""Kind of a secret that is known by its name alone."""

_START = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))"
"""Where a word begins, also behind an escaped line end in JSON."""
_GAP = r"(?:\\[nr]|\s)"

_MARKS = ("bos", "eos", "mask", "next", "pad", "sep", "stop", "unk")
"""Before `token`: marks of a model's language, which are no secrets."""
_TOKEN = "token" + "".join(rf"(?<!{mark}[_-]token)" for mark in _MARKS)

# A name, what may close it where it is quoted, and what assigns the value to it.
_CLOSED = r"(?:\\?[\"'])?\s{0,3}"
_SURE = rf"(?:api|access|secret|private|signing|encryption)[_-]?key|(?<=[_-]){_TOKEN}|client[_-]?secret|passw(?:or)?d"
_VAGUE = rf"secrets?|{_TOKEN}|passphrase|(?<![a-z])pwd(?!{_CLOSED}=\s{{0,3}}/)"
"""Words that are also those of ordinary sentences, at least before a colon; `PWD=/home` is a folder."""
_SIGN = r"[^\s\"'\\,;&<>()\[\]{}|`]"
"""Of a value without quotes."""
_NO_WORD = r"(?=(?-i:[A-Z]?+[a-z._-]{0,64}+[A-Z0-9+/=]))"
"""Before a value of letters that no word is made of: capitals within it, or digits."""
_ENDED = r"(?![\[(])"
"""What is called or looked up in code is no value."""

RULES: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "private_key",
        re.compile(
            rf"-----BEGIN (?:[A-Z0-9]+ ){{0,3}}PRIVATE KEY-----(?P<secret>{_GAP}*"
            rf"(?:[A-Za-z-]{{1,32}}: [^\n\"\\]{{0,128}}{_GAP}+)*(?:[A-Za-z0-9+/=\s]|\\[nr])*"
            r"(?:-----END (?:[A-Z0-9]+ ){0,3}PRIVATE KEY-----)?)"
        ),
    ),
    (
        "url_password",
        re.compile(
            _START + r"[a-zA-Z][a-zA-Z0-9+.-]{1,30}://[^\s:/@\"'\\]{0,256}:(?P<secret>[^\s/@\"'\\]{1,512})@",
        ),
    ),
    (
        "authorization",
        re.compile(
            rf"(?i)authorization{_CLOSED}[:=]\s{{0,3}}(?:\\?[\"'])?(?:basic|digest|token|negotiate)\s{{1,3}}"
            rf"(?P<secret>(?:{_NO_WORD}{_SIGN}{{4,4096}}|{_SIGN}{{24,4096}}))"
        ),
    ),
    ("bearer_token", re.compile(_START + r"[Bb]earer\s+(?P<secret>[A-Za-z0-9._~+/-]{16,4096}=*)")),
    ("jwt", re.compile(_START + r"(?P<secret>eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,})")),
    (
        "api_key",
        re.compile(
            _START + r"(?P<secret>sk-(?=[a-z_-]{0,64}+[A-Z0-9]|[a-z]{16})[A-Za-z0-9_-]{16,}"  # no words with hyphens
            r"|[rs]k_(?:live|test)_[A-Za-z0-9]{10,}|gh[pousr]_[A-Za-z0-9]{30,}"
            r"|github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{20,}|xox[abeprs]-[A-Za-z0-9-]{10,}"
            r"|npm_[A-Za-z0-9]{20,}|pypi-[A-Za-z0-9_-]{16,}|A(?:KIA|SIA)[A-Z0-9]{16}|AIza[A-Za-z0-9_-]{35})"
            r"(?![A-Za-z0-9])"
        ),
    ),
    (  # in quotes: all up to the quote of the same kind
        NAMED,
        re.compile(
            rf"(?i)(?:{_SURE}|{_VAGUE}){_CLOSED}[:=]\s{{0,3}}(?P<quote>\\?[\"'])"
            r"(?P<secret>(?:(?!(?P=quote))(?:[^\\\n]|\\.)){1,10000}+)(?P=quote)"
        ),
    ),
    (  # behind an equals sign: eight signs, or four that are no plain word; numbers are counts
        NAMED,
        re.compile(
            rf"(?i)(?:{_SURE}|{_VAGUE}){_CLOSED}=\s{{0,3}}(?:\\?[\"'])?(?!\d{{1,7}}(?!{_SIGN}))"
            rf"(?P<secret>(?:{_SIGN}{{8,512}}+|(?=[a-z._-]{{0,7}}[0-9~+/!@#$%^*]){_SIGN}{{4,7}}+)){_ENDED}"
        ),
    ),
    (  # behind a colon, where no sentence would go on like this
        NAMED,
        re.compile(
            rf"(?i)(?:{_SURE}){_CLOSED}:\s{{0,3}}(?:\\?[\"'])?(?P<secret>{_SIGN}{{8,512}}+){_ENDED}"
            rf"|(?:{_VAGUE}){_CLOSED}:\s{{0,3}}(?:\\?[\"'])?(?=[^\s\"'\\]{{0,64}}[a-z])(?=[^\s\"'\\]{{0,64}}\d)"
            rf"(?P<mixed>{_SIGN}{{8,512}}+){_ENDED}"
        ),
    ),
)
HINT = re.compile(
    r"(?i)://|-----BEGIN|authorization|bearer|eyJ|sk-|[rs]k_|gh[pousr]_|github_pat|glpat-|hf_|xox|npm_|pypi-|A[KS]IA|AIza"
    r"|key|token|secret|passw|passphrase|pwd|credential|\\u00[2-7]"
)
"""Text without any of this holds nothing that a rule or a name would find: this one look lets most text through.

In JSON, an escaped letter may be part of a name.
"""

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SECRET_WORDS = frozenset({
    "password", "passwords", "passwd", "pwd", "passphrase", "secret", "secrets", "token", "authorization",
    "credential", "credentials", "apikey",
})  # fmt: skip
_SECRET_KEYS = frozenset({"api", "access", "secret", "private", "signing", "encryption", "auth"})
"""A key is a secret where one of these words stands before it."""

_WRITTEN_TOGETHER = re.compile(rf"(?i)(?:{_SURE}|{_VAGUE}|authorization)\Z")
"""At the end of a name such as `dbpassword`: what the rules see before a value is secret in a document, too."""


@lru_cache(maxsize=4096)
def names_a_secret(name: str) -> bool:
    """Whether what is kept under a name is a secret: `password`, `clientSecret`, `db.api_key`; not `max_tokens`."""
    words = [word.lower() for word in _WORDS.findall(name)]
    *before, last = ["", *words] if words else ["", ""]
    if last == "token":
        return before[-1] not in _MARKS
    if last in _SECRET_WORDS or (last in {"key", "keys"} and before[-1] in _SECRET_KEYS):
        return True
    return _WRITTEN_TOGETHER.search(name) is not None
