"""How one prediction is scored against its references: ROUGE-L and exact match.

ROUGE-L is the number that `rouge_score` 0.1.2 gives (`RougeScorer(["rougeL"], use_stemmer=True)`, F-measure),
and exact match follows the rule of Super-NaturalInstructions' own evaluation script
(`eval/automatic/evaluation.py`). The published numbers rest on both, so neither may differ in the last digit.
Words are split and stemmed by `rouge_score` itself, each distinct word once; only the longest common
subsequence is computed elsewhere (`rapidfuzz`), because `rouge_score` fills a table in Python, cell by cell.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

Tokenize = Callable[[str], Sequence[str]]
"""From a text to its tokens; an empty token counts as a token, as in `rouge_score`."""

# Labels ("Yes", "entailment") come back thousands of times; long texts hardly ever do, and would fill the
# memory.
_CACHED_TEXT_CHARS = 256
_CACHED_TEXTS = 1 << 14
_CACHED_WORDS = 1 << 17

_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class PairScore:
    """The score of one prediction: `rouge_l` in 0..1, and whether it matches a reference exactly."""

    rouge_l: float
    exact_match: bool


@cache
def _splitter() -> Callable[[str], list[str]]:
    # Imported here: rouge_score brings nltk along, which takes a second or more that `simtune --help` need
    # not pay.
    from rouge_score.tokenizers import DefaultTokenizer

    split: Callable[[str], list[str]] = DefaultTokenizer(use_stemmer=False).tokenize
    return split


@cache
def _stemmer() -> Callable[[str], list[str]]:
    from rouge_score.tokenizers import DefaultTokenizer

    stem: Callable[[str], list[str]] = DefaultTokenizer(use_stemmer=True).tokenize
    return stem


@lru_cache(maxsize=_CACHED_WORDS)
def _stem(word: str) -> list[str]:
    # A list: rouge_score drops a word whose stem is empty.
    return _stemmer()(word)


def _remembering(tokenize: Tokenize) -> Tokenize:
    remembered = lru_cache(maxsize=_CACHED_TEXTS)(tokenize)

    def tokens(text: str) -> Sequence[str]:
        return remembered(text) if len(text) <= _CACHED_TEXT_CHARS else tokenize(text)

    return tokens


def _split_and_stem(text: str) -> tuple[str, ...]:
    return tuple(stem for word in _splitter()(text) for stem in _stem(word))


_split_and_stem_remembering = _remembering(_split_and_stem)


def rouge_tokenize(text: str) -> Sequence[str]:
    """Tokens of `rouge_score`'s default tokenizer with the Porter stemmer.

    Lower-cased, split at everything outside `[a-z0-9]`, words of more than three letters stemmed. Text in
    another script has no tokens at all and scores 0: hence the other tokenizer of the cross-lingual track.
    """
    return _split_and_stem_remembering(text)


def _common_subsequence_length(first: Sequence[str], second: Sequence[str]) -> int:
    from rapidfuzz.distance import LCSseq

    # rapidfuzz compares elements by a 64-bit hash. Small numbers are their own hash, so equality is exact.
    number: dict[str, int] = {}
    first_numbers = [number.setdefault(token, len(number)) for token in first]
    second_numbers = [number.setdefault(token, len(number)) for token in second]
    return int(LCSseq.similarity(first_numbers, second_numbers))


def _f_measure(prediction: Sequence[str], reference: Sequence[str]) -> float:
    if not prediction or not reference:
        return 0.0
    common = _common_subsequence_length(prediction, reference)
    if common == 0:
        return 0.0
    # In rouge_score's own order of operations: the floats are equal, not merely close.
    precision = common / len(prediction)
    recall = common / len(reference)
    return 2 * precision * recall / (precision + recall)


def rouge_l(prediction: str, references: Sequence[str], tokenize: Tokenize = rouge_tokenize) -> float:
    """ROUGE-L F-measure, 0..1, maximum over the references.

    Known behaviour, kept because the published numbers have it: an empty prediction scores 0; "Yes." equals
    "yes"; "#" against "#" is 0 (no token); "-3" equals "3"; "a a a" against "a" is 0.5.

    Args:
        prediction: what the model wrote.
        references: the acceptable outputs, at least one.
        tokenize: `rouge_tokenize`, or the cross-lingual track's tokenizer (no stemmer, case kept).

    Raises:
        ValueError: there is no reference.
    """
    _require_references(references)
    tokens = tokenize(prediction)
    return max(_f_measure(tokens, tokenize(reference)) for reference in references)


def normalize_answer(text: str) -> str:
    """Lower-cased, ASCII punctuation removed, white space squeezed; unlike in SQuAD, articles are kept."""
    return " ".join(text.lower().translate(_WITHOUT_PUNCTUATION).split())


def exact_match(prediction: str, references: Sequence[str]) -> bool:
    """Whether the normalised prediction equals a normalised reference.

    An empty prediction matches a reference made of punctuation only, as in the official script.

    Raises:
        ValueError: there is no reference.
    """
    _require_references(references)
    answer = normalize_answer(prediction)
    return any(answer == normalize_answer(reference) for reference in references)


def score_pairs(pairs: Iterable[tuple[str, Sequence[str]]], tokenize: Tokenize | None = None) -> list[PairScore]:
    """Scores of many (prediction, references) pairs, in their order, in time linear in their number.

    Args:
        pairs: predictions with their references, at least one each.
        tokenize: in place of `rouge_tokenize`; called once for a short text that comes back.

    Raises:
        ValueError: a pair has no reference.
    """
    tokens_of = rouge_tokenize if tokenize is None else _remembering(tokenize)
    return [
        PairScore(
            rouge_l=rouge_l(prediction, references, tokens_of),
            exact_match=exact_match(prediction, references),
        )
        for prediction, references in pairs
    ]


def _require_references(references: Sequence[str]) -> None:
    if isinstance(references, str) or not references:
        raise ValueError(f"references must be a non-empty list of texts, got {references!r}")
