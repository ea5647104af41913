"""Seconds of the driver's stages against size: reading, choosing, planning, gathering.

Task files and vectors are made up; no encoder and no training take part. A ratio of times near (or below) the ratio
of sizes is linear. The graph itself is quadratic in *tasks* (every pair is an edge), which its column shows.
"""

from __future__ import annotations

import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from simtune.config import CorpusSettings, EvaluationSettings, SelectionSettings
from simtune.corpus.pool import build_task_sets
from simtune.evaluation.scores import PredictionRecord, score_predictions
from simtune.graph.similarity import SimilarityGraph
from simtune.selection.subsets import build_subsets

INSTANCES = 100


def seconds(work: Callable[[], object]) -> float:
    """The best of three: noise on a shared machine only adds."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def write_corpus(root: Path, num_tasks: int) -> None:
    (root / "tasks").mkdir(parents=True)
    (root / "splits/default").mkdir(parents=True)
    names = [f"task{number:05}_made_up" for number in range(num_tasks)]
    for number, name in enumerate(names):
        instances = [{"id": f"{name}-{i}", "input": f"word {i} " * 30, "output": ["yes"]} for i in range(INSTANCES)]
        task = {"Definition": [f"Do {number}."], "Categories": [f"Category {number % 50}"], "Instances": instances}
        (root / "tasks" / f"{name}.json").write_text(json.dumps(task))
    (root / "splits/default/train_tasks.txt").write_text("\n".join(names[:-10]))
    (root / "splits/default/test_tasks.txt").write_text("\n".join(names[-10:]))


def main() -> None:
    print(f"{platform.processor() or platform.machine()}, python {platform.python_version()}; best of 3")
    print(f"{'tasks':>7}{'instances':>11}{'read s':>9}{'graph s':>9}{'choose s':>10}{'score s':>9}")
    for num_tasks in (200, 400, 800, 1600):
        with tempfile.TemporaryDirectory() as folder:
            write_corpus(Path(folder), num_tasks)
            corpus = CorpusSettings(path=folder)
            read_s = seconds(lambda corpus=corpus: build_task_sets(corpus, EvaluationSettings()))
        vectors_ND = np.random.default_rng(0).normal(size=(num_tasks, 384)).astype(np.float32)
        names = [f"task{number:05}" for number in range(num_tasks)]
        categories = [f"Category {number % 50}" for number in range(num_tasks)]

        def build(names: list[str] = names, categories: list[str] = categories, vectors_ND: np.ndarray = vectors_ND):
            return SimilarityGraph.build(names, categories, vectors_ND, vectors_ND[:100])

        graph = build()
        choose_s = seconds(lambda graph=graph: build_subsets(graph, SelectionSettings(sizes=(10, 50, 100), seeds=(0,))))
        records = [
            PredictionRecord(f"{name}-{i}", name, "A", ("the right answer",), f"the answer {i}")
            for name in names
            for i in range(10)
        ]
        score_s = seconds(lambda records=records: score_predictions(records))
        sizes = f"{num_tasks:>7}{num_tasks * INSTANCES:>11}"
        print(f"{sizes}{read_s:>9.3f}{seconds(build):>9.3f}{choose_s:>10.3f}{score_s:>9.3f}")


if __name__ == "__main__":
    main()
