"""Texts of task files in a form to compare or to print: without case and layout, or as one printable line."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

# What task files say of tasks that come from no data set, or from one that was not written down; the first three are
# published ones.
_NO_SOURCE = {"synthetic", "missing", "miscellaneous", "unknown", "none", "na", "other"}


def clean(text: str) -> str:
    """One printable line: names and keys come from files, and a terminal obeys what it is sent."""
    return "".join(character if character.isprintable() else "�" for character in text)


def source_names(sources: Iterable[str]) -> dict[str, str]:
    """The data sets that a task names as its sources, by their names without case, punctuation and spaces.

    Published files spell one data set several ways (`rocstories`, `roc_stories`), and some name two in one text,
    separated by a semicolon.
    """
    names = [clean(name.strip()) for text in sources for name in text.split(";")]
    keyed = {normalised(name).replace(" ", ""): name for name in sorted(names, reverse=True)}
    return {key: name for key, name in keyed.items() if key and key not in _NO_SOURCE}


def normalised(text: str) -> str:
    """A text without case, punctuation and layout: compatibility forms folded, words apart by one space.

    Letters of all scripts stay with their marks, digits and symbols such as `+` stay too.
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().translate(_FOLDING).split())


class _Folding(dict[int, str]):
    """What each character becomes, found when first met: a table of all of Unicode would take a second to make."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if category == "Cf":
            # Joiners and direction marks are not seen.
            character = ""
        elif category[0] in "PZC" or category == "Sk":
            character = " "
        self[code] = character
        return character


_FOLDING = _Folding()
