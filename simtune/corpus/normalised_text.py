"""Texts of task files in a form to compare or to print: without case and layout, or as one printable line."""

from __future__ import annotations

import unicodedata


def clean(text: str) -> str:
    """One printable line: names and keys come from files, and a terminal obeys what it is sent."""
    return "".join(character if character.isprintable() else "�" for character in text)


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
