"""Secrets out of text that leaves the process: what is recorded, logged, reported or said in an error.

Two kinds are known: what looks like a secret wherever it stands (a URL's password, a token's prefix, `password=...`),
and the values of this process's own secret environment variables.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

HIDDEN = "***"
_ENVIRONMENT = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
# Shorter values are words, which would be cut out of every other sentence.
_MIN_LENGTH = 8
# Ends in the word: `max_target_tokens=8` and `model.tokenizer=pool` are settings. `key` and `sig` stand alone.
_NAME = (
    r"[\w.-]{0,64}(?:token|secret|password|passwd|passphrase|signature|credentials?|api[-_]?key|access[-_]?key(?:[-_]?id)?"
    r"|private[-_]?key)|(?<![\w.-])(?:key|sig|pwd|auth)"
)
_PATTERNS = (
    # A URL's user and password, of which either may be the token; the last @ before the path ends them. One slash
    # where it was taken for a path.
    (re.compile(r"(?<=:/)(/?)[^/\s?#'\"<>]+@"), rf"\1{HIDDEN}@"),
    # name=value, as a query has it, an option or a setting; also quoted.
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
    """The text with `***` in place of every secret; redacting twice changes nothing more."""
    for value in _secret_values():
        text = text.replace(value, HIDDEN)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def redact_command(arguments: Iterable[str]) -> list[str]:
    """A command line's arguments, each redacted, and whole where the option before it says that it is a secret."""
    shown: list[str] = []
    before = ""
    for argument in arguments:
        shown.append(HIDDEN if _OPTION.fullmatch(before) else redact(argument))
        before = argument
    return shown


def redact_values(value: Any) -> Any:
    """Nested lists and mappings as JSON has them, with every text in them redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(str(key)): redact_values(inner) for key, inner in value.items()}
    return [redact_values(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _secret_values() -> list[str]:
    """Values of secret environment variables, longest first, as they are and as a URL writes them."""
    values = {value for name, value in os.environ.items() if _ENVIRONMENT.search(name) and len(value) >= _MIN_LENGTH}
    return sorted(values | {quote(value, safe="") for value in values}, key=lambda value: (-len(value), value))
