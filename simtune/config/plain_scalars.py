"""What a value without quotes means: a number in JSON notation, `true`, `false`, `null`, or a string.

YAML readers differ on many other spellings (`010` is 8 or 10, `1:30` is 90 or a string, `no` is false or a string).
Each of them is refused, with what to write instead; so is a string that only looks like a number.
"""

from __future__ import annotations

import re

NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")

_BOOLEANS = dict.fromkeys(("yes", "on"), "true") | dict.fromkeys(("no", "off"), "false")
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt\s].*)?", re.DOTALL)
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(:[0-9_]+)+(\.[0-9_]*)?")
_OTHER_BASE = re.compile(r"[-+]?0([xX][0-9a-fA-F_]+|[oO][0-7_]+|[bB][01_]+)")
_NO_NUMBER = re.compile(r"[-+]?\.?(inf|infinity)|\.?nan", re.IGNORECASE)
_LOOSE = re.compile(r"[-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9][0-9_]*)([eE][-+]?[0-9_]+)?")
_LONGEST_SHOWN = 40


def refusal_reason(text: str) -> str | None:
    """Why a value without quotes is refused and what to write instead, or None where all readers agree on it."""
    if not text:
        return "no value; write one, or null, or leave the field out"
    if text in ("<<", "="):
        return f"{text} has a meaning of its own in YAML (merge key, default value); write every field out"
    reason = _wrong_word(text) or _wrong_number(text)
    if reason is None:
        return None
    shown = text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
    return f"{shown} {reason}, or with quotes where it is a string"


def _wrong_word(text: str) -> str | None:
    word = text.casefold()
    if word in _BOOLEANS:
        return f"is a boolean in some readers of YAML and a string in others; write {_BOOLEANS[word]}"
    if text == "~" or (word in ("true", "false", "null") and word != text):
        return f"is not in JSON notation; write {'null' if text == '~' else word}"
    if _DATE.fullmatch(text):
        return "is a date in some readers of YAML, and no setting is a date; write a number"
    if _NO_NUMBER.fullmatch(text):
        return "is not a finite number; write one, or null"
    return None


def _wrong_number(text: str) -> str | None:
    if NUMBER.fullmatch(text):
        return None if INTEGER.fullmatch(text) else _out_of_range(text)
    if _BASE_60.fullmatch(text):
        return "is a base-60 number in some readers of YAML; write one number in the field's unit, such as 90"
    if _OTHER_BASE.fullmatch(text):
        return "is not a decimal number; write it in decimal digits"
    if not _LOOSE.fullmatch(text):
        return None
    plain = _as_json(text)
    octal = " (some readers of YAML take it as octal)" if re.fullmatch(r"[-+]?0[0-9_]+", text) else ""
    return f"is not a number in JSON notation{octal}; write {plain}"


def _out_of_range(text: str) -> str | None:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        return "is too large for a number; write a smaller one"
    if value == 0 and re.search("[1-9]", re.split("[eE]", text)[0]):
        return "is too close to zero for a number; write 0 or a larger one"
    return None


def _as_json(text: str) -> str:
    """The JSON spelling of a decimal number that has a plus, underscores, extra zeros or a bare point."""
    mantissa, mark, exponent = re.fullmatch(r"([^eE]*)([eE]?)(.*)", text.replace("_", "")).groups()  # type: ignore[union-attr]
    whole, point, part = mantissa.lstrip("+-").partition(".")
    number = (whole.lstrip("0") or "0") + (f".{part or '0'}" if point else "")
    return ("-" if text.startswith("-") else "") + number + (f"e{exponent or '0'}" if mark else "")
