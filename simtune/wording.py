"""Wording of messages: counted nouns, durations, shortened lists, and the closest valid name for a misspelt one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from numbers import Integral


def counted(number: float, singular: str, plural: str = "") -> str:
    """A number with its noun: `1 trial`, `2 trials`, `1,024 texts`.

    Args:
        number: how many; may be a fraction.
        singular: the noun, or a phrase such as `task is`.
        plural: by default `singular` with an s.
    """
    written = f"{number:,}" if isinstance(number, Integral) else f"{number:,g}"
    return f"{written} {singular if number == 1 else plural or f'{singular}s'}"


def duration(seconds: float) -> str:
    """Seconds as `42 s`, `12.5 min`, `3.2 h` or `4.1 days`."""
    for unit, length_s, least_s in (("days", 86400, 48 * 3600), ("h", 3600, 2 * 3600), ("min", 60, 120)):
        if seconds >= least_s:
            return f"{f'{seconds / length_s:,.1f}'.removesuffix('.0')} {unit}"
    return f"{seconds:.0f} s"


def time_of_day(seconds: float) -> str:
    """The local time `14:03:59` of a moment, in seconds since 1970."""
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def some(names: Sequence[str], most: int = 3) -> str:
    """The first names of a list: `a, b, c, ...`."""
    return ", ".join(names[:most]) + ", ..." * (len(names) > most)


def alternatives(words: Sequence[str]) -> str:
    """Words as alternatives: `a`, `a or b`, `a, b or c`; empty for none."""
    return " or ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def last_line(text: str) -> str:
    """The last line that is not blank, stripped; an empty text if there is none."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def nearest(word: str, names: Iterable[str]) -> str:
    """`; did you mean ...?` with the closest name, or an empty text if none is close."""
    from rapidfuzz import fuzz, process

    match = process.extractOne(word, list(names), scorer=fuzz.WRatio, score_cutoff=_MIN_SCORE)
    return f"; did you mean {match[0]!r}?" if match else ""


def spelt_like(word: str, names: Sequence[str]) -> str:
    """The name that is spelt most like a word, in whatever case; empty if none is."""
    from rapidfuzz import fuzz, process

    match = process.extractOne(word.lower(), names, scorer=fuzz.ratio, score_cutoff=_LEAST_LIKE)
    return match[0] if match else ""


# Out of 100, which the library gives to equal words.
_MIN_SCORE, _LEAST_LIKE = 75, 65
