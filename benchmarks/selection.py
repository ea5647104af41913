"""Choosing tasks: every strategy on a study's pool, the linear ones on very large pools, and peers beside us.

Peers are taken where they are installed (`pip install apricot-select submodlib-py`). Vectors are drawn in clusters, as
embeddings lie; each part runs in a process of its own, so that peaks of memory are its own.

    python benchmarks/selection.py                      all parts, some fifteen minutes
    python benchmarks/selection.py --part pool          one of them
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

RUNS = 5
DIMENSIONS = 384
SIZES = (10, 25, 50, 75, 100, 150, 200, 250, 300, 400, 500, 600, 800, 1000, 1200, 1600)
ALIASES = {"min-sum", "max-sum", "list"}
LINEAR = ("min-sum", "max-min", "graph-cut")


def clustered(num_tasks: int, num_clusters: int = 300, seed: int = 0) -> np.ndarray:
    """Unit vectors float32 [num_tasks, DIMENSIONS] around random centres, with a direction that all share."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((num_clusters, DIMENSIONS), dtype=np.float32)
    vectors = np.empty((num_tasks, DIMENSIONS), dtype=np.float32)
    for begin in range(0, num_tasks, 65536):
        part = vectors[begin : begin + 65536]
        part[:] = 1.2 * generator.standard_normal(part.shape, dtype=np.float32) + 0.4
        part += centres[generator.integers(0, num_clusters, len(part))]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return vectors


def build(vectors: np.ndarray, num_test: int = 0):
    """A graph over vectors named by number, some of them held out."""
    from simtune.graph.similarity import SimilarityGraph

    pool = vectors[num_test:]
    names = [f"task{number:07}" for number in range(len(pool))]
    categories = [f"category{number % 60}" for number in range(len(pool))]
    return SimilarityGraph.build(
        names, categories, pool, vectors[:num_test], [(f"s{n // 3}",) for n in range(len(pool))]
    )


def choose(graph, name: str, size: int, start: int | None = None, **parameters: float) -> list[int]:
    """The tasks that a strategy chooses."""
    from simtune.selection.draft import Draft, Options
    from simtune.selection.registry import strategy

    found = strategy(name)
    draft = Draft(graph, size, 0, found.check(name, parameters), Options(start=start))
    found.choose(draft)
    return draft.chosen


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def peak_mib() -> float:
    """The largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def part_pool() -> None:
    """1,600 tasks: every strategy and all statistics for 16 sizes."""
    from simtune.config import SelectionSettings
    from simtune.selection.registry import STRATEGIES
    from simtune.selection.subsets import build_subsets

    names = tuple(name for name in STRATEGIES if name not in ALIASES)
    vectors = clustered(1600 + 119, num_clusters=60)

    def run(strategies: Sequence[str]) -> None:
        settings = SelectionSettings(strategies=tuple(strategies), sizes=SIZES, seeds=(0,))
        build_subsets(build(vectors, num_test=119), settings)

    run(names)
    taken = [seconds(lambda: run(names)) for _ in range(RUNS)]
    print(
        f"1,600 x {DIMENSIONS}, {len(names)} strategies, {len(SIZES)} sizes, all statistics: "
        f"{statistics.median(taken):.2f} s (target 2 s; {min(taken):.2f} to {max(taken):.2f})"
    )


def part_large() -> None:
    """100,000 tasks, choose 1,000."""
    vectors = clustered(100_000)
    graph = build(vectors)
    del vectors
    for name in LINEAR:
        taken = [seconds(lambda name=name: choose(graph, name, 1000)) for _ in range(RUNS)]
        print(
            f"100,000 x {DIMENSIONS}, choose 1,000, {name}: {statistics.median(taken):.1f} s "
            f"(target 15 s; {min(taken):.1f} to {max(taken):.1f})"
        )
    print(f"peak resident memory: {peak_mib():.0f} MiB (target 1,536)")


def part_facility() -> None:
    """Facility location on 20,000 tasks, choose 1,000."""
    graph = build(clustered(20_000))
    taken = [seconds(lambda: choose(graph, "facility-location", 1000)) for _ in range(RUNS)]
    print(
        f"20,000 x {DIMENSIONS}, choose 1,000, facility-location: {statistics.median(taken):.1f} s "
        f"(target 20 s; {min(taken):.1f} to {max(taken):.1f}); peak {peak_mib():.0f} MiB"
    )


def part_apricot() -> None:
    """Facility location beside apricot-select on 5,000 tasks, choose 500, both from the vectors."""
    try:
        from apricot import FacilityLocationSelection
    except ImportError:
        print("apricot-select is not installed: not compared")
        return
    vectors = clustered(5000)
    picks: dict[str, list[int]] = {}

    def theirs() -> None:
        similarity = np.clip(vectors.astype(np.float64) @ vectors.astype(np.float64).T, 0.0, 1.0)
        model = FacilityLocationSelection(500, metric="precomputed", optimizer="lazy").fit(similarity)
        picks["apricot"] = model.ranking.tolist()

    def ours() -> None:
        picks["simtune"] = choose(build(vectors), "facility-location", 500)

    theirs(), ours()
    ours_s, theirs_s = zip(*[(seconds(ours), seconds(theirs)) for _ in range(RUNS)], strict=True)
    same = sum(a == b for a, b in zip(picks["simtune"], picks["apricot"], strict=True))
    print(
        f"5,000 x {DIMENSIONS}, choose 500, facility-location: simtune {statistics.median(ours_s):.2f} s, "
        f"apricot-select {statistics.median(theirs_s):.2f} s, "
        f"ratio {statistics.median(theirs_s) / statistics.median(ours_s):.1f} (target 5); {same} of 500 picks the same"
    )


def part_submodlib() -> None:
    """Greedy log-determinant beside submodlib on 2,000 tasks, choose 500, ridge 1, from the same first task."""
    try:
        from submodlib.functions.logDeterminant import LogDeterminantFunction
    except ImportError:
        print("submodlib is not installed: not compared")
        return
    vectors = clustered(2000)
    picks: dict[str, list[int]] = {}

    def theirs() -> None:
        # The same similarities for both: gains differ in the seventh digit, as float32 lengths do.
        function = LogDeterminantFunction(n=2000, mode="dense", lambdaVal=1.0, sijs=build(vectors).similarity_NN)
        chosen = function.maximize(budget=500, optimizer="LazyGreedy", show_progress=False)
        picks["submodlib"] = [task for task, _ in chosen]

    def ours() -> None:
        picks["simtune"] = choose(build(vectors), "log-det", 500, start=picks["submodlib"][0], ridge=1.0)

    theirs(), ours()
    ours_s, theirs_s = zip(*[(seconds(ours), seconds(theirs)) for _ in range(RUNS)], strict=True)
    same = sum(a == b for a, b in zip(picks["simtune"], picks["submodlib"], strict=True))
    print(
        f"2,000 x {DIMENSIONS}, choose 500, log-det: simtune {statistics.median(ours_s):.2f} s, "
        f"submodlib {statistics.median(theirs_s):.2f} s, "
        f"ratio {statistics.median(theirs_s) / statistics.median(ours_s):.1f} (target 3); {same} of 500 picks the same"
    )


def part_scaling(output: Path) -> None:
    """Seconds against the number of tasks, 1,000 to 1,000,000, choose 100, with what the machine could do at best."""
    counts = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
    square = np.ones((4096, 4096), dtype=np.float32)
    square @ square
    flops = 2 * 4096**3 / min(seconds(lambda: square @ square) for _ in range(3))
    measured: dict[str, list[float]] = {name: [] for name in LINEAR}
    read: list[float] = []
    for count in counts:
        vectors = clustered(count)
        names = [f"task{number:07}" for number in range(count)]
        from simtune.graph.similarity import SimilarityGraph

        graph = SimilarityGraph.build(names, names, vectors, dense=False)
        del vectors
        # One product with one vector: every number is read once.
        read.append(100 * min(seconds(lambda graph=graph: graph.vectors_ND @ graph.vectors_ND[0]) for _ in range(5)))
        for name in LINEAR:
            measured[name].append(
                min(seconds(lambda name=name, graph=graph: choose(graph, name, 100)) for _ in range(2))
            )
        shown = ", ".join(f"{name} {values[-1]:.2f} s" for name, values in measured.items())
        ceiling = 2 * count * 100 * DIMENSIONS / flops
        print(
            f"{count:>9,} tasks, choose 100: {shown}; reading the vectors 100 times {read[-1]:.2f} s, "
            f"matrix product at its best {ceiling:.3f} s",
            flush=True,
        )
    print(f"peak resident memory: {peak_mib():.0f} MiB")
    _draw(counts, measured, read, flops, output)


def _draw(
    counts: Sequence[int], measured: dict[str, list[float]], read: list[float], flops: float, output: Path
) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for (name, values), marker in zip(measured.items(), "os^", strict=True):
        axes.plot(counts, values, marker=marker, label=name)
    axes.plot(counts, read, linestyle="--", color="0.4", label="reading all vectors 100 times")
    ceiling = [2 * count * 100 * DIMENSIONS / flops for count in counts]
    axes.plot(counts, ceiling, linestyle=":", color="0.4", label=f"matrix product at {flops / 1e9:.0f} GFLOP/s")
    axes.set(xscale="log", yscale="log", xlabel=f"tasks of {DIMENSIONS} dimensions", ylabel="seconds to choose 100")
    axes.legend(frameon=False)
    axes.grid(which="major", alpha=0.3)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=140)
    print(f"written: {output}")


def main() -> None:
    parts = {
        "pool": part_pool,
        "large": part_large,
        "facility": part_facility,
        "apricot": part_apricot,
        "submodlib": part_submodlib,
        "scaling": part_scaling,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=parts, action="append")
    parser.add_argument("--output", type=Path, default=Path("selection_scaling.png"), help="the scaling plot")
    arguments = parser.parse_args()
    machine = platform.processor() or platform.machine()
    print(
        f"{machine}, {len(os.sched_getaffinity(0))} cores, python {platform.python_version()}, numpy {np.__version__}; "
        f"median of {RUNS}"
    )
    for name in arguments.part or parts:
        arguments_of_part = (arguments.output,) if name == "scaling" else ()
        process = multiprocessing.get_context("spawn").Process(target=parts[name], args=arguments_of_part)
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"part {name} ended with {process.exitcode}")


if __name__ == "__main__":
    main()
