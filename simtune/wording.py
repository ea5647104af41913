"""Words of messages that many rooms need: counted nouns, and the nearest right name for a wrong one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral


def counted(number: float, singular: str, plural: str = "") -> str:
    """A number with its noun: `1 trial`, `2 trials`, `1,024 texts`.

    Args:
        number: a fraction is written as short as it is (0.25).
        singular: the noun, or a phrase such as `task is`.
        plural: `singular` with an s where it is not given.
    """
    written = f"{number:,}" if isinstance(number, Integral) else f"{number:,g}"
    return f"{written} {singular if number == 1 else plural or f'{singular}s'}"


def some(names: Sequence[str], most: int = 3) -> str:
    """The first names of a list: `a, b, c, ...`."""
    return ", ".join(names[:most]) + ", ..." * (len(names) > most)


def nearest(word: str, names: Iterable[str]) -> str:
    """`; did you mean ...?` where a name is near, else nothing."""
    from rapidfuzz import fuzz, process

    match = process.extractOne(word, list(names), scorer=fuzz.WRatio, score_cutoff=_LEAST_LIKE)
    return f"; did you mean {match[0]!r}?" if match else ""


# Of 100, the library's for two equal words.
_LEAST_LIKE = 75
