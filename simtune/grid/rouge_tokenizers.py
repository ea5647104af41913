"""The tokenizers of ROUGE-L that suites name (`rouge_tokenizer`).

They are loaded before anything is trained and go to the workers as they were loaded. A score's identity has what is in
them, not where they are: a changed file gives another score, and a moved one the same.
"""

from __future__ import annotations

from collections.abc import Iterable

from simtune.config import Sweep
from simtune.config.evaluation import suite_field, suites_of
from simtune.errors import ModelError
from simtune.evaluation.xlingual import Gpt2Tokenize, gpt2_tokenize, is_local


class RougeTokenizers:
    """Tokenizers of ROUGE-L, each name loaded once."""

    def __init__(self) -> None:
        self._loaded: dict[str, Gpt2Tokenize] = {}

    def of_suites(self, sweep: Sweep) -> dict[str, Gpt2Tokenize]:
        """The tokenizers of the suites that name one, by the suite's name.

        Raises:
            ModelError: one of them cannot be loaded.
        """
        found = {}
        for suite in suites_of(sweep):
            name = suite.rouge_tokenizer
            if name is None:
                continue
            if name not in self._loaded:
                self._loaded[name] = gpt2_tokenize(name, _field(sweep, suite.name))
            found[suite.name] = self._loaded[name]
        return found


def check_rouge_tokenizers(sweeps: Iterable[Sweep]) -> None:
    """Loads those that are on this disk, without asking a hub for others.

    Raises:
        ModelError: one of them cannot be loaded.
    """
    checked: set[str] = set()
    for sweep in sweeps:
        for suite in suites_of(sweep):
            name, field = suite.rouge_tokenizer, _field(sweep, suite.name)
            if name is not None and name not in checked:
                checked.add(name)
                if is_local(name, field):
                    gpt2_tokenize(name, field)


def available_rouge_tokenizers(sweeps: Iterable[Sweep]) -> tuple[dict[str, Gpt2Tokenize], list[str]]:
    """Those that can be loaded now, by their fingerprint, and why others cannot."""
    found: dict[str, Gpt2Tokenize] = {}
    problems: dict[str, None] = {}
    loaded = RougeTokenizers()
    for sweep in sweeps:
        try:
            found |= {tokenizer.fingerprint: tokenizer for tokenizer in loaded.of_suites(sweep).values()}
        except ModelError as error:
            problems[str(error)] = None
    return found, list(problems)


def _field(sweep: Sweep, suite: str) -> str:
    return f"{suite_field(sweep, suite)}.rouge_tokenizer"
