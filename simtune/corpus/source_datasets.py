"""The data sets that a task was made from, as its file names them: the same one however it is spelled."""

from __future__ import annotations

from collections.abc import Iterable

from simtune.corpus.normalised_text import clean, normalised

# What task files say of tasks that come from no data set, or from one that was not written down; the first three are
# published ones.
_NO_SOURCE = {"synthetic", "missing", "miscellaneous", "unknown", "none", "na", "other"}


def source_names(sources: Iterable[str]) -> dict[str, str]:
    """The data sets that a task names as its sources, by their names without case, punctuation and spaces.

    Published files spell one data set several ways (`rocstories`, `roc_stories`), and some name two in one text,
    separated by a semicolon.
    """
    names = [clean(name.strip()) for text in sources for name in text.split(";")]
    keyed = {normalised(name).replace(" ", ""): name for name in sorted(names, reverse=True)}
    return {key: name for key, name in keyed.items() if key and key not in _NO_SOURCE}
