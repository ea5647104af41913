"""How predictions are scored against their references: ROUGE-L and exact match.

ROUGE-L is the number that `rouge_score` 0.1.2 gives (`RougeScorer(["rougeL"], use_stemmer=True)`, F-measure),
and exact match follows the rule of Super-NaturalInstructions' own evaluation script
(`eval/automatic/evaluation.py`). The published numbers rest on both, so neither may differ in the last digit.

Many pairs are scored at once: each distinct text is split and normalised once, each distinct word is stemmed once, the
longest common subsequences are found by `rapidfuzz` (the bit-parallel algorithm of Hyyrö, 2004) without a step of
Python for each, and the fractions are numpy's, in `rouge_score`'s order of operations.

Shapes: T distinct texts, P pairs of a prediction and one reference, I predictions.
"""

from __future__ import annotations

import string
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, islice
from typing import Protocol, runtime_checkable

import numpy as np

from simtune.evaluation.porter_stemmer import porter_stem

Tokenize = Callable[[str], Sequence[str]]
"""From a text to its tokens; an empty token counts as a token, as in `rouge_score`."""

Scored = tuple[str, Sequence[str]]
"""A prediction and its references, at least one."""

# Predictions worked on at once, so that memory is bounded by these, not by all of them.
_CHUNK = 1 << 12
# A long text is split piece by piece: Python's words take ten times the memory of their letters.
_PIECE_CHARS = 1 << 20
_REMEMBERED_WORDS = 1 << 17
_REMEMBERED_WORD_CHARS = 64

_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_PUNCTUATION = string.punctuation.encode()
_SPACES_ALIKE = bytes(ord(" ") if chr(byte).isspace() else byte for byte in range(128)) + bytes(range(128, 256))
# Every rule of the Porter stemmer (with nltk's extensions) begins at one of these; a third of all words has none.
_STEMMED_ENDINGS = (
    *("s", "ed", "ing", "y", "i", "e", "al", "er", "or"),
    *("ion", "ism", "ful", "ic", "ant", "ent", "ou", "ll"),
)
_WORD_LETTERS = (string.ascii_lowercase + string.digits).encode()
_SPACED = bytes(byte if byte in _WORD_LETTERS else ord(" ") for byte in range(256))


@runtime_checkable
class TokenizeMany(Protocol):
    """A tokenizer that is faster on many texts than on one at a time."""

    def many(self, texts: Sequence[str]) -> Iterable[Sequence[str]]:
        """The tokens of each text, in order."""


class _Stems(dict[str, str]):
    """From a word to its stem, remembered for as many words as fit."""

    def __missing__(self, word: str) -> str:
        stem = porter_stem()(word) if len(word) > 3 and word.endswith(_STEMMED_ENDINGS) else word
        if len(word) <= _REMEMBERED_WORD_CHARS:
            if len(self) == _REMEMBERED_WORDS:
                self.clear()
            self[word] = stem
        return stem


_STEMS = _Stems()


def rouge_tokenize(text: str) -> list[str]:
    """Tokens of `rouge_score`'s default tokenizer with the Porter stemmer.

    Lower-cased, split at everything outside `[a-z0-9]`, words of more than three letters stemmed. Text in
    another script has no tokens at all and scores 0: hence the other tokenizer of the cross-lingual track.
    """
    letters = text.lower().encode("ascii", "replace").translate(_SPACED).decode("ascii")
    if len(letters) <= _PIECE_CHARS:
        return list(map(_STEMS.__getitem__, letters.split()))
    tokens: list[str] = []
    start = 0
    while start < len(letters):
        end = letters.find(" ", start + _PIECE_CHARS)
        end = len(letters) if end < 0 else end
        tokens += map(_STEMS.__getitem__, letters[start:end].split())
        start = end
    return tokens


def normalize_answer(text: str) -> str:
    """Lower-cased, ASCII punctuation removed, white space squeezed; unlike in SQuAD, articles are kept."""
    lowered = text.lower()
    if not lowered.isascii():
        return " ".join(lowered.translate(_WITHOUT_PUNCTUATION).split())
    # The same in bytes, twice as fast and without an object for each word.
    letters = lowered.encode().translate(_SPACES_ALIKE, _PUNCTUATION)
    while b"  " in letters:
        letters = letters.replace(b"  ", b" ")
    return letters.strip().decode()


def rouge_l_scores(pairs: Iterable[Scored], tokenize: Tokenize = rouge_tokenize) -> list[float]:
    """ROUGE-L of many predictions, 0..1, in their order, in time linear in their number.

    It is the F-measure's maximum over the references. Known behaviour, kept because the published numbers have it: an
    empty prediction scores 0; "#" against "#" is 0 (no token); "a a a" against "a" is 0.5.

    Args:
        pairs: predictions with their references, at least one each.
        tokenize: `rouge_tokenize`, or the cross-lingual track's tokenizer (no stemmer, case kept).

    Raises:
        ValueError: a prediction has no reference.
    """
    return [score for chunk in _chunks(pairs) for score in _rouge_of_chunk(chunk, tokenize)]


def exact_matches(pairs: Iterable[Scored]) -> list[bool]:
    """Whether each normalised prediction equals one of its normalised references.

    Known behaviour: "Yes." equals "yes"; "-3" equals "3"; an empty prediction matches a reference made of punctuation
    only.

    Raises:
        ValueError: a prediction has no reference.
    """
    normalised = _Normalised()
    found = []
    for prediction, references in pairs:
        _require_references(references)
        answer = normalised[prediction]
        found.append(any(normalised[reference] == answer for reference in references))
    return found


def rouge_l(prediction: str, references: Sequence[str], tokenize: Tokenize = rouge_tokenize) -> float:
    """ROUGE-L of one prediction, 0..1; see `rouge_l_scores`."""
    return rouge_l_scores([(prediction, references)], tokenize)[0]


class _Normalised(dict[str, str]):
    """From a text to its normalised form. Labels ("Yes", "entailment") come back thousands of times."""

    def __missing__(self, text: str) -> str:
        normalised = normalize_answer(text)
        if len(text) <= _REMEMBERED_WORD_CHARS:
            if len(self) == _REMEMBERED_WORDS:
                self.clear()
            self[text] = normalised
        return normalised


def _require_references(references: Sequence[str]) -> None:
    if isinstance(references, str) or not references:
        raise ValueError(f"references must be a non-empty list of texts, got {references!r}")


def _chunks(pairs: Iterable[Scored]) -> Iterator[list[Scored]]:
    remaining = iter(pairs)
    while chunk := list(islice(remaining, _CHUNK)):
        yield chunk


def _rouge_of_chunk(chunk: Sequence[Scored], tokenize: Tokenize) -> list[float]:
    # Labels come back thousands of times: each text is looked at once.
    texts: defaultdict[str, int] = defaultdict(count().__next__)
    said_P: list[int] = []
    wanted_P: list[int] = []
    starts_I: list[int] = []
    for prediction, references in chunk:
        _require_references(references)
        starts_I.append(len(wanted_P))
        said_P += [texts[prediction]] * len(references)
        wanted_P += [texts[reference] for reference in references]
    tokens_T = tokenize.many(list(texts)) if isinstance(tokenize, TokenizeMany) else map(tokenize, texts)
    rouge_P = _f_measures(tokens_T, said_P, wanted_P)
    best: list[float] = np.maximum.reduceat(rouge_P, starts_I).tolist()
    return best


def _f_measures(tokens_T: Iterable[Sequence[str]], said_P: Sequence[int], wanted_P: Sequence[int]) -> np.ndarray:
    """ROUGE-L of each pair, float64 [P]."""
    from rapidfuzz.distance import LCSseq
    from rapidfuzz.process import cpdist

    # rapidfuzz compares elements by a 64-bit hash. Small numbers are their own hash, so equality is exact.
    number: defaultdict[str, int] = defaultdict(count().__next__)
    numbers_T = [list(map(number.__getitem__, tokens)) for tokens in tokens_T]
    length_T = np.array([len(numbers) for numbers in numbers_T])
    # The first side is the one whose bit vectors rapidfuzz stores, 64 bytes a token: references are short.
    queries = [numbers_T[text] for text in wanted_P]
    choices = [numbers_T[text] for text in said_P]
    common_P = cpdist(queries, choices, scorer=LCSseq.similarity)
    # In rouge_score's own order of operations: the floats are equal, not merely close.
    rouge_P = np.zeros(len(common_P))
    some = common_P > 0
    precision = common_P[some] / length_T[said_P][some]
    recall = common_P[some] / length_T[wanted_P][some]
    rouge_P[some] = 2 * precision * recall / (precision + recall)
    return rouge_P
