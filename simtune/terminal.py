r"""Printing to the terminal: everything is printed through this module, so that no text can control the terminal.

Names, hosts, messages and paths come from files, other processes and other machines. Control characters can make a
terminal change what it shows, its title or the clipboard, and direction marks can reverse a line. They are shown as
Python writes them (`\x1b`). Only newlines, tabs and the sequences with which rich draws are passed on.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

# Control characters except newline and tab; line separators; direction marks; invisible characters; surrogates.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
# Colours, and showing or hiding the cursor: the only sequences passed on for libraries that print by themselves.
_HARMLESS = re.compile(r"(\x1b\[(?:[0-9;]*m|\?25[hl]))")


def printable(text: str) -> str:
    """The text with an escape for every character that would control the terminal or be invisible."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def say(text: str, err: bool = False, end: str = "\n") -> None:
    """Prints a line, or with an empty `end` a part of one, on standard output or standard error."""
    stream = sys.stderr if err else sys.stdout
    stream.write(f"{printable(text)}{end}")
    stream.flush()


def say_json(value: object) -> None:
    """Prints a value as JSON on standard output; parsing it gives the same value."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write(_UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")
    sys.stdout.flush()


class _PrintableStream:
    """Passes on printable text alone, for code that prints by itself: libraries, warnings, Ray's messages."""

    def __init__(self, stream: TextIO) -> None:
        self.raw = stream

    def write(self, text: str) -> int:
        parts = _HARMLESS.split(text)
        self.raw.write("".join(part if index % 2 else printable(part) for index, part in enumerate(parts)))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


@contextmanager
def printable_streams() -> Iterator[None]:
    """Escapes everything that this process prints on standard output and standard error, whoever prints it."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _PrintableStream(before[0]), _PrintableStream(before[1])
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def raw_stream(stream: TextIO) -> TextIO:
    """The stream that a stream of `printable_streams` writes to; any other stream unchanged."""
    return stream.raw if isinstance(stream, _PrintableStream) else stream
