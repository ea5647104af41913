"""Scoring against `rouge_score`: the same pairs, the same numbers, seconds and memory side by side.

    python benchmarks/score.py            some three minutes

The real test set is all instances of the Super-NaturalInstructions test tasks (`--data`; the bundled demo corpus where
it is missing) with the two copying baselines as predictions. `simtune_s` starts with no stem remembered, as the first
evaluation of a process does; `again_s` is every later one. It holds exact match too; rouge_score's side has ROUGE-L
only. `floor_s`: lower-casing and splitting each distinct text once, the least that any scorer in Python does. The rows
`exact match` compare that metric alone with the official script's rule.
"""

from __future__ import annotations

import argparse
import random
import string
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from harness import in_own_process, interleaved, machine, median, save, show

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "sup-natinst"
SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000)
Pair = tuple[str, tuple[str, ...]]


def made_up(num_pairs: int, num_words: int) -> list[Pair]:
    """Word salad: predictions and references from one small vocabulary, so that they share some words."""
    source = random.Random(f"{num_pairs} {num_words}")
    words = ["".join(source.choices("aeilnorst", k=source.randrange(2, 9))) for _ in range(20 + 4 * num_words)]
    return [
        (" ".join(source.choices(words, k=num_words)), (" ".join(source.choices(words, k=num_words)),))
        for _ in range(num_pairs)
    ]


def of_test_set(data: Path, split: str, *heuristics: str) -> list[Pair]:
    """Every instance of the test tasks, as each baseline answers it."""
    from simtune.config import CorpusSettings, EvaluationSettings
    from simtune.config.holdout import HoldoutSettings
    from simtune.corpus.pool import build_task_sets
    from simtune.evaluation.baselines import HEURISTICS

    corpus = CorpusSettings(min_instances=1)
    if data.is_dir():
        corpus = CorpusSettings(path=str(data), holdout=HoldoutSettings(split=split))
    return [
        (HEURISTICS[name](task, instance), instance.outputs)
        for name in heuristics
        for task in build_task_sets(corpus, EvaluationSettings()).test
        for instance in task.instances
    ]


@cache
def byte_level_bpe(data: Path) -> Any:
    """A tokenizer of GPT-2's kind: bytes, no special token, made from the texts themselves."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=5000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    pairs = of_test_set(data, "xlingual", "copy-input")
    tokenizer.train_from_iterator((text for said, wanted in pairs for text in (said, *wanted)), trainer)
    return tokenizer


def ours(pairs: Sequence[Pair], tokenizer: Any = None) -> list[float]:
    from simtune.evaluation.metrics import rouge_l_scores, rouge_tokenize
    from simtune.evaluation.xlingual import Gpt2Tokenize

    tokenize = rouge_tokenize if tokenizer is None else Gpt2Tokenize(tokenizer)
    return rouge_l_scores(pairs, tokenize)


def peer(pairs: Sequence[Pair], tokenizer: Any = None) -> list[float]:
    """What people use instead: the package's own scorer, maximum over references."""
    from rouge_score.rouge_scorer import RougeScorer

    class Official:
        def tokenize(self, text: str) -> list[str]:
            return [token.lstrip("Ġ") for token in tokenizer.encode(text).tokens]

    scorer = RougeScorer(["rougeL"], use_stemmer=True, tokenizer=None if tokenizer is None else Official())
    return [max(scorer.score(a, said)["rougeL"].fmeasure for a in wanted) for said, wanted in pairs]


def our_matches(pairs: Sequence[Pair], _tokenizer: None = None) -> list[bool]:
    from simtune.evaluation.metrics import exact_matches

    return exact_matches(pairs)


def official_matches(pairs: Sequence[Pair], _tokenizer: None = None) -> list[bool]:
    """The rule as the official script writes it."""

    def normalized(text: str) -> str:
        exclude = set(string.punctuation)
        return " ".join("".join(letter for letter in text.lower() if letter not in exclude).split())

    return [any(normalized(said) == normalized(a) for a in wanted) for said, wanted in pairs]


def floor(pairs: Sequence[Pair]) -> None:
    for text in {text for said, wanted in pairs for text in (said, *wanted)}:
        text.lower().split()


def forget() -> None:
    """As in a new process: no stem remembered."""
    from simtune.evaluation import metrics

    metrics._STEMS.clear()


def load(data: Path, kind: str) -> tuple[list[Pair], Any]:
    """The pairs of a row, and a tokenizer where it is not the default one."""
    name, _, size = kind.partition(", ")
    if name == "words":
        return made_up({"3": 4000, "16": 2000, "128": 300}[size], int(size)), None
    if name == "test set":
        return of_test_set(data, "default", *(["copy-input", "copy-demonstration"] if size == "both" else [size])), None
    if name == "gpt-2 tokens":
        return of_test_set(data, "xlingual", "copy-input", "copy-demonstration"), byte_level_bpe(data)
    return of_test_set(data, "default", "copy-input", "copy-demonstration"), None


def once(data: Path, kind: str, score: Callable[..., Any]) -> None:
    """One scoring, for its memory."""
    score(*load(data, kind))


def seconds_of(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def scorers(kind: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return (our_matches, official_matches) if kind == "exact match" else (ours, peer)


def row_of(data: Path, kind: str) -> dict[str, Any]:
    our_score, their_score = scorers(kind)
    pairs, tokenizer = load(data, kind)
    found: dict[str, list[Any]] = {}

    def first() -> float:
        forget()
        return seconds_of(lambda: found.update(ours=our_score(pairs, tokenizer)))

    works = {
        "simtune": first,
        "again": lambda: seconds_of(lambda: our_score(pairs, tokenizer)),
        "peer": lambda: seconds_of(lambda: found.update(peer=their_score(pairs, tokenizer))),
        "floor": lambda: seconds_of(lambda: floor(pairs)),
    }
    taken = {name: median(values) for name, values in interleaved(works).items()}
    return {
        "pairs": kind,
        "predictions": len(pairs),
        "references": sum(len(wanted) for _, wanted in pairs),
        "simtune_s": taken["simtune"],
        "again_s": taken["again"],
        "peer_s": taken["peer"],
        "ratio": taken["peer"] / taken["simtune"],
        "ratio_again": taken["peer"] / taken["again"],
        "floor_s": taken["floor"],
        "largest_difference": max(abs(a - b) for a, b in zip(found["ours"], found["peer"], strict=True)),
    }


def scaling() -> list[dict[str, Any]]:
    """Seconds against the number of pairs of 16 words."""
    rows = []
    for size in SIZES:
        pairs = made_up(size, 16)
        works = {"simtune": partial(ours, pairs), "floor": partial(floor, pairs)}
        taken = interleaved({name: partial(seconds_of, work) for name, work in works.items()}, 3)
        rows.append({"pairs": size, "simtune_s": median(taken["simtune"]), "floor_s": median(taken["floor"])})
        rows[-1]["us_per_pair"] = rows[-1]["simtune_s"] / size * 1e6
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="a Super-NaturalInstructions folder")
    data = parser.parse_args().data
    about = machine("rouge_score", "nltk", "rapidfuzz", "tokenizers", "numpy")
    about["test_set"] = "Super-NaturalInstructions" if data.is_dir() else "the bundled demo corpus"
    kinds = ["test set, copy-input", "test set, copy-demonstration", "test set, both", "words, 3", "words, 16"]
    kinds += ["words, 128", "gpt-2 tokens", "exact match"]
    # From this process while it is small: a new process counts as its own the memory of the one that started it.
    peaks = {kind: [in_own_process(once, data, kind, score)[1] for score in scorers(kind)] for kind in kinds}
    ours(made_up(10, 3))
    peer(made_up(10, 3))
    rows = [row_of(data, kind) | {"peak_mib": peaks[kind][0], "peer_peak_mib": peaks[kind][1]} for kind in kinds]
    show(f"Scoring against rouge_score (test set: {about['test_set']})", rows, about)
    sizes = scaling()
    print()
    show("Seconds against the number of pairs of 16 words", sizes, about)
    pairs = [size["pairs"] for size in sizes]
    series = [
        {"name": "simtune", "x": pairs, "y": [size["simtune_s"] for size in sizes]},
        {"name": "splitting the texts alone", "x": pairs, "y": [size["floor_s"] for size in sizes], "limit": True},
    ]
    save("score", rows, about, scaling={"x": "pairs", "y": "s", "series": series})


if __name__ == "__main__":
    main()
