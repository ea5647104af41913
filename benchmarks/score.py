"""Scoring against `rouge_score`: the same pairs, the same numbers, seconds side by side."""

from __future__ import annotations

import platform
import random
import statistics
import time

from rouge_score.rouge_scorer import RougeScorer

from simtune.evaluation.metrics import score_pairs

RUNS = 5
Pair = tuple[str, tuple[str, ...]]


def make_pairs(num_pairs: int, num_words: int) -> list[Pair]:
    """Word salad: predictions and references from one small vocabulary, so that they share some words."""
    source = random.Random(f"{num_pairs} {num_words}")
    words = ["".join(source.choices("aeilnorst", k=source.randrange(2, 9))) for _ in range(20 + 4 * num_words)]
    return [
        (" ".join(source.choices(words, k=num_words)), (" ".join(source.choices(words, k=num_words)),))
        for _ in range(num_pairs)
    ]


def peer(pairs: list[Pair]) -> list[float]:
    """What people use instead: the package's own scorer, maximum over references."""
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    return [max(scorer.score(a, said)["rougeL"].fmeasure for a in texts) for said, texts in pairs]


def main() -> None:
    machine = platform.processor() or platform.machine()
    print(f"{machine}, python {platform.python_version()}; median of {RUNS} interleaved runs")
    print(f"{'pairs':>8}{'words':>7}{'simtune s':>11}{'rouge_score s':>15}{'ratio':>7}{'largest difference':>20}")
    for num_pairs, num_words in ((4000, 3), (2000, 16), (300, 128)):
        pairs = make_pairs(num_pairs, num_words)
        ours_s, peer_s, difference = [], [], 0.0
        for _ in range(RUNS):
            started = time.perf_counter()
            ours = score_pairs(pairs)
            between = time.perf_counter()
            theirs = peer(pairs)
            ours_s.append(between - started)
            peer_s.append(time.perf_counter() - between)
            difference = max(difference, *(abs(a.rouge_l - b) for a, b in zip(ours, theirs, strict=True)))
        ours_median, peer_median = statistics.median(ours_s), statistics.median(peer_s)
        print(
            f"{num_pairs:>8}{num_words:>7}{ours_median:>11.3f}{peer_median:>15.3f}"
            f"{peer_median / ours_median:>7.1f}{difference:>20.1e}"
        )


if __name__ == "__main__":
    main()
