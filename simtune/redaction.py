"""Removes secrets from text that leaves the process: records, logs, reports and error messages.

There are two kinds: text that looks like a secret anywhere (a password in a URL, a token with a known prefix,
`password=...`), and the values of this process's own secret environment variables.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

HIDDEN = "***"
_ENVIRONMENT = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
# Shorter values may be ordinary words, which would be removed from many sentences.
_MIN_LENGTH = 8
# Names that end in the word: `max_target_tokens=8` and `model.tokenizer=pool` are settings. `key` and `sig` only alone.
_NAME = (
    r"[\w.-]{0,64}(?:token|secret|password|passwd|passphrase|signature|credentials?|api[-_]?key|access[-_]?key(?:[-_]?id)?"
    r"|account[-_]?key|private[-_]?key)|(?<![\w.-])(?:key|sig|pwd|auth)"
)
_PATTERNS = (
    # A URL's user and password, either of which may be the token; the last @ before the path ends them. There is only
    # one slash if the URL was treated as a path.
    (re.compile(r"(?<=:/)(/?)[^/\s?#'\"<>]+@"), rf"\1{HIDDEN}@"),
    # name=value as in a query, an option or a setting; also quoted.
    (re.compile(rf"(?i)({_NAME})(=|%3D)(\"[^\"]*\"|'[^']*'|[^\s&;,'\"<>()\]}}]+)"), rf"\1\2{HIDDEN}"),
    # "name": "value", as JSON, YAML and Python write it.
    (re.compile(rf"(?i)(['\"](?:{_NAME})['\"]\s*:\s*)(\"[^\"]*\"|'[^']*')"), rf'\1"{HIDDEN}"'),
    (re.compile(rf"(?i)((?<!\S)--(?:{_NAME})\s+)(?!-)(\"[^\"]*\"|'[^']*'|\S+)"), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), rf"\1 {HIDDEN}"),
    # Hugging Face, AWS, GitHub, GitLab, Slack, OpenAI and the like, Google; a JSON web token.
    (
        re.compile(
            r"\b(?:hf_[A-Za-z0-9]{16,}|(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}"
            r"|glpat-[\w-]{16,}|xox[abeprs]-[\w-]{10,}|sk-[\w-]{20,}|AIza[\w-]{30,}"
            r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+)"
        ),
        HIDDEN,
    ),
)
_OPTION = re.compile(rf"(?i)--?(?:{_NAME})")


def redact(text: str) -> str:
    """The text with every secret replaced by `***`; redacting twice has no further effect."""
    return _redact(text, _secret_values())


def redact_each(texts: Iterable[str]) -> dict[str, str]:
    """The redacted text of each distinct text; reads the environment once."""
    secrets = _secret_values()
    return {text: _redact(text, secrets) for text in dict.fromkeys(texts)}


def _redact(text: str, secrets: Iterable[str]) -> str:
    for value in secrets:
        text = text.replace(value, HIDDEN)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def redact_command(arguments: Iterable[str]) -> list[str]:
    """Redacts the arguments of a command line, completely after an option whose value is a secret."""
    shown: list[str] = []
    before = ""
    for argument in arguments:
        shown.append(HIDDEN if _OPTION.fullmatch(before) else redact(argument))
        before = argument
    return shown


def command_again() -> str:
    """The command of this process as a user can type it again; secrets are redacted."""
    return shlex.join(["simtune", *redact_command(sys.argv[1:])])


def redact_values(value: object) -> object:
    """Redacts every text in nested lists and mappings, as in JSON."""
    return _redact_values(value, _secret_values())


def _redact_values(value: object, secrets: Sequence[str]) -> object:
    if isinstance(value, str):
        return _redact(value, secrets)
    if isinstance(value, Mapping):
        return {_redact(str(key), secrets): _redact_values(inner, secrets) for key, inner in value.items()}
    return [_redact_values(inner, secrets) for inner in value] if isinstance(value, (list, tuple)) else value


def _secret_values() -> list[str]:
    """Values of secret environment variables, longest first, both plain and quoted for URLs."""
    values = {value for name, value in os.environ.items() if _ENVIRONMENT.search(name) and len(value) >= _MIN_LENGTH}
    return sorted(values | {quote(value, safe="") for value in values}, key=lambda value: (-len(value), value))
