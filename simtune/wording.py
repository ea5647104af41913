"""Wording of messages: counted nouns, shortened lists, and the closest valid name for a misspelt one."""

from __future__ import annotations

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
