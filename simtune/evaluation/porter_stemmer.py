"""nltk's Porter stemmer, which `rouge_score` uses, without the rest of nltk.

`import nltk` brings taggers, parsers and, through one of them, scikit-learn and scipy: three seconds of a CPU in every
process that scores. The stemmer needs three small modules of it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType


@cache
def porter_stem() -> Callable[[str], str]:
    """A function from a lower-cased word to its stem, with nltk's extensions of the algorithm."""
    if "nltk" in sys.modules:
        return _stem_of(importlib.import_module("nltk.stem.porter"))
    # Packages without a file to run. They are in the way of nobody's import afterwards.
    nltk = _folder_of_nltk()
    for name, folder in {"nltk": nltk, "nltk.stem": nltk / "stem"}.items():
        sys.modules[name] = package = ModuleType(name)
        package.__path__ = [str(folder)]
    try:
        return _stem_of(importlib.import_module("nltk.stem.porter"))
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "nltk"]:
            del sys.modules[name]


def _folder_of_nltk() -> Path:
    spec = importlib.util.find_spec("nltk")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("nltk is not installed; rouge_score needs it", name="nltk")
    return Path(spec.origin).parent


def _stem_of(porter: ModuleType) -> Callable[[str], str]:
    stem: Callable[[str], str] = porter.PorterStemmer().stem
    return stem
