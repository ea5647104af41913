"""JSON objects from files of many authors: every flaw has its position, and none passes unnoticed.

JSON readers disagree on repeated keys, on NaN and infinity, and on half a UTF-16 pair; here each of them is an error
or a warning.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from simtune.errors import cut, shown

_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")


class BadJsonError(ValueError):
    """A file that is not a JSON object of this kind; `position` may be empty."""

    def __init__(self, position: str, message: str) -> None:
        super().__init__(message)
        self.position = position


@dataclass(frozen=True, slots=True)
class NotJson:
    """Stands for a NaN or Infinity token; no field accepts it."""

    token: str


@dataclass
class JsonObject:
    """An object with what was odd about its file.

    Attributes:
        warnings: positions and messages.
    """

    fields: dict[str, Any]
    warnings: list[tuple[str, str]] = field(default_factory=list)


def parse_object(data: bytes, fields_read: Collection[str]) -> JsonObject:
    """Parses a file that is one JSON object.

    Args:
        data: the file's bytes, UTF-8.
        fields_read: the keys whose values will be used; flaws of text and number in other fields do no harm.

    Raises:
        BadJsonError: not such a file, with the position.
    """
    text, warnings = _decoded(data)
    tokens: list[str] = []

    def constant(token: str) -> NotJson:
        tokens.append(token)
        return NotJson(token)

    try:
        fields = json.loads(text, object_pairs_hook=unique_keys, parse_constant=constant)
    except json.JSONDecodeError as error:
        raise BadJsonError(f"line {error.lineno}, column {error.colno}", f"broken JSON ({error.msg})") from None
    except RecursionError:
        raise BadJsonError("", "nested too deeply for a task file") from None
    except BadJsonError:
        raise
    except ValueError as error:
        raise BadJsonError("", f"broken JSON ({error})") from None
    if not isinstance(fields, dict):
        raise BadJsonError("", f"a task file is a JSON object, found {json_type(fields)}")
    # About a hundred published files have NaN in URL; only in a field that is read does it do harm.
    if tokens:
        warnings += [
            (printable_key(key), "contains NaN or an infinity, which is not JSON")
            for key in fields
            if key not in fields_read and any(isinstance(leaf, NotJson) for _, leaf in _leaves(fields[key], ""))
        ]
    if _HALF_CHARACTER.search(text):
        _refuse_half_characters(fields, fields_read)
    return JsonObject(fields, warnings)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The `object_pairs_hook` that refuses an object with a key twice, since which value counts is unclear.

    Raises:
        BadJsonError: names the key.
    """
    fields = dict(pairs)
    if len(fields) != len(pairs):
        ((repeated, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise BadJsonError("", f"the key {shown(repeated)} is given twice in one object")
    return fields


def printable_key(key: str) -> str:
    """A key as one short printable line."""
    return cut(repr(key)[1:-1])


def json_type(value: object) -> str:
    """What a value is, in words."""
    if isinstance(value, NotJson):
        return f"the token {value.token}"
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    if isinstance(value, str) and not value.strip():
        return "an empty text"
    return names.get(type(value), "a list" if isinstance(value, list) else "an object")


def _decoded(data: bytes) -> tuple[str, list[tuple[str, str]]]:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise BadJsonError("byte 0", "UTF-16 text; save the file as UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadJsonError(f"byte {error.start}", f"not UTF-8 text ({error.reason})") from None
    if text.startswith("\ufeff"):
        return text[1:], [("byte 0", "begins with a byte order mark, which was ignored")]
    return text, []


def _refuse_half_characters(fields: dict[str, Any], fields_read: Collection[str]) -> None:
    """JSON can spell half a UTF-16 pair, UTF-8 cannot: neither a tokenizer nor a fingerprint could read such a text."""
    for key in sorted(set(fields_read).intersection(fields)):
        for position, value in _leaves(fields[key], key):
            if isinstance(value, str) and not _is_unicode(value):
                raise BadJsonError(position, "contains an unpaired surrogate (\\ud800 to \\udfff)")


def _leaves(value: object, position: str) -> Iterator[tuple[str, object]]:
    """Texts, numbers and the like inside a value, each with its position; without recursion, as values may be deep."""
    waiting = [(position, value)]
    while waiting:
        position, value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend((f"{position}.{printable_key(key)}", entry) for key, entry in value.items())
        elif isinstance(value, list):
            waiting.extend((f"{position}[{index}]", entry) for index, entry in enumerate(value))
        else:
            yield position, value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
