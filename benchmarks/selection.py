"""Choosing tasks: every strategy on the pool of a sweep, the linear ones on very large pools, and peers beside us.

Peers are taken where they are installed (`pip install apricot-select submodlib-py`). Vectors are drawn in clusters, as
embeddings lie; each part runs in a process of its own, so that peaks of memory are its own.

    python benchmarks/selection.py                      all parts, some fifteen minutes
    python benchmarks/selection.py --part pool          one of them; the other rows stay as they are
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from harness import RESULTS, RUNS, in_own_process, interleaved, machine, median, save, show

DIMENSIONS = 384
SIZES = (10, 25, 50, 75, 100, 150, 200, 250, 300, 400, 500, 600, 800, 1000, 1200, 1600)
COUNTS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
GROWTH = {"": (50_000, 100, 192), "n": (100_000, 100, 192), "k": (50_000, 200, 192), "d": (50_000, 100, 384)}
ALIASES = {"min-sum", "max-sum", "list"}
LINEAR = ("min-sum", "max-min", "graph-cut")
FIGURE = Path(__file__).resolve().parents[1] / "docs" / "figures" / "selection_scaling.png"


def clustered(num_tasks: int, num_clusters: int = 300, dimensions: int = DIMENSIONS) -> np.ndarray:
    """Unit vectors float32 [num_tasks, dimensions] around random centres, with a direction that all share."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((num_clusters, dimensions), dtype=np.float32)
    vectors = np.empty((num_tasks, dimensions), dtype=np.float32)
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
    sources = [(f"s{number // 3}",) for number in range(len(pool))]
    return SimilarityGraph.build(names, categories, pool, vectors[:num_test], sources)


def choose(graph, name: str, size: int, start: int | None = None, **parameters: float) -> list[int]:
    """The tasks that a strategy chooses."""
    from simtune.selection.partial_subset import Options, PartialSubset
    from simtune.selection.registry import strategy

    # What a graph caches would make later runs cheaper than the first.
    vars(graph).pop("total_similarity_N", None)
    found = strategy(name)
    subset = PartialSubset(graph, size, 0, found.check(name, parameters), Options(start=start))
    found.choose(subset)
    return subset.chosen


def row(part: str, what: str, tasks: int, chosen: int | str, seconds: Sequence[float], **more: Any) -> dict[str, Any]:
    """A line of the first table."""
    spread = {"fastest_s": min(seconds), "slowest_s": max(seconds)}
    measured = {"seconds": median(seconds), **spread, "runs": len(seconds)}
    return {"part": part, "strategy": what, "tasks": tasks, "chosen": chosen, **measured, **more}


def pool_times() -> dict[str, list[float]]:
    """Seconds of all strategies with all statistics of all sizes; the first run of a process is the first.

    Also with numpy's eigenvalues instead of `simtune.graph.spectrum`.
    """
    from simtune.config import SelectionSettings
    from simtune.graph.spectrum import eigenvalues
    from simtune.selection.registry import STRATEGIES
    from simtune.selection.subsets import build_subsets

    settings = SelectionSettings(
        strategies=tuple(name for name in STRATEGIES if name not in ALIASES), sizes=SIZES, seeds=(0,)
    )
    vectors = clustered(1600 + 119, num_clusters=60)

    def work(eigenvalues: Callable[[np.ndarray], np.ndarray]) -> None:
        with mock.patch("simtune.graph.statistics.eigenvalues", eigenvalues):
            build_subsets(build(vectors, num_test=119), settings)

    return interleaved({"ours": lambda: work(eigenvalues), "numpy": lambda: work(np.linalg.eigvalsh)}, RUNS + 1)


def part_pool() -> dict[str, list[dict[str, Any]]]:
    """1,600 tasks: every strategy and all statistics for 16 sizes."""
    found, peak_mib = in_own_process(pool_times)
    first, *later = found["ours"]
    about = {"target_s": 2, "peak_mib": peak_mib}
    sizes = f"{len(SIZES)} sizes"
    return {
        "rows": [
            row("pool", "all, with all statistics", 1600, sizes, later, **about),
            row("pool", "the same, first in a process", 1600, sizes, [first], peak_mib=peak_mib),
            row("pool", "the same, with numpy's eigenvalues", 1600, sizes, found["numpy"][1:], peak_mib=peak_mib),
        ]
    }


def choose_times(name: str, num_tasks: int, size: int, dimensions: int = DIMENSIONS) -> list[float]:
    """Seconds of one strategy, the graph built before."""
    graph = build(clustered(num_tasks, dimensions=dimensions))
    return interleaved({name: lambda: choose(graph, name, size) and None})[name]


def part_large() -> dict[str, list[dict[str, Any]]]:
    """100,000 tasks, choose 1,000."""
    rows = []
    for name in LINEAR:
        seconds, peak_mib = in_own_process(choose_times, name, 100_000, 1000)
        rows.append(row("large", name, 100_000, 1000, seconds, target_s=15, peak_mib=peak_mib, target_mib=1536))
    return {"rows": rows}


def part_facility() -> dict[str, list[dict[str, Any]]]:
    """Facility location on 20,000 tasks, choose 1,000."""
    name = "facility-location"
    seconds, peak_mib = in_own_process(choose_times, name, 20_000, 1000)
    return {"rows": [row("facility", name, 20_000, 1000, seconds, target_s=20, peak_mib=peak_mib)]}


def part_growth() -> dict[str, list[dict[str, Any]]]:
    """Tasks, choices and dimensions doubled, each alone: seconds against those of the first line."""
    rows: list[dict[str, Any]] = []
    for doubled, (tasks, chosen, dimensions) in GROWTH.items():
        line: dict[str, Any] = {"doubled": doubled or "-", "tasks": tasks, "chosen": chosen, "dimensions": dimensions}
        for name in LINEAR:
            line[f"{name} s"] = median(in_own_process(choose_times, name, tasks, chosen, dimensions)[0])
        for name in LINEAR:
            line[f"{name} times"] = line[f"{name} s"] / (rows or [line])[0][f"{name} s"]
        rows.append(line)
    return {"growth": rows}


def beside_apricot() -> tuple[dict[str, list[float]], list[int], list[int]]:
    """Facility location from the vectors, 500 of 5,000."""
    from apricot import FacilityLocationSelection

    vectors = clustered(5000)
    picks: dict[str, list[int]] = {}

    def theirs() -> None:
        exact = vectors.astype(np.float64)
        similarity = np.clip(exact @ exact.T, 0.0, 1.0)
        model = FacilityLocationSelection(500, metric="precomputed", optimizer="lazy").fit(similarity)
        picks["theirs"] = model.ranking.tolist()

    def ours() -> None:
        picks["ours"] = choose(build(vectors), "facility-location", 500)

    return _beside(ours, theirs), picks["ours"], picks["theirs"]


def beside_submodlib() -> tuple[dict[str, list[float]], list[int], list[int]]:
    """Greedy log-determinant, 500 of 2,000, ridge 1, from the same first task and the same similarities."""
    from submodlib.functions.logDeterminant import LogDeterminantFunction

    vectors = clustered(2000)
    picks: dict[str, list[int]] = {}

    def theirs() -> None:
        # Gains differ in the seventh digit, as float32 lengths do.
        function = LogDeterminantFunction(n=2000, mode="dense", lambdaVal=1.0, sijs=build(vectors).similarity_NN)
        chosen = function.maximize(budget=500, optimizer="LazyGreedy", show_progress=False)
        picks["theirs"] = [task for task, _ in chosen]

    def ours() -> None:
        picks["ours"] = choose(build(vectors), "log-det", 500, start=picks["theirs"][0], ridge=1.0)

    return _beside(ours, theirs), picks["ours"], picks["theirs"]


def _beside(ours: Callable[[], None], theirs: Callable[[], None]) -> dict[str, list[float]]:
    # Once before: peers compile on first use.
    theirs()
    ours()
    return interleaved({"ours": ours, "theirs": theirs})


def part_peer(
    name: str, package: str, module: str, tasks: int, target: float, work: Callable[[], Any]
) -> dict[str, list[dict[str, Any]]]:
    """One strategy beside the package that has it too; an empty row where that is not installed."""
    about = {"strategy": name, "peer": package, "tasks": tasks, "chosen": 500}
    # Not imported here: a new process counts as its own the memory of the one that started it.
    if find_spec(module) is None:
        return {"peers": [about]}
    (seconds, ours, theirs), _ = in_own_process(work)
    simtune_s, peer_s = median(seconds["ours"]), median(seconds["theirs"])
    same = sum(one == other for one, other in zip(ours, theirs, strict=True))
    measured = {"simtune_s": simtune_s, "peer_s": peer_s, "simtune_is_faster": peer_s / simtune_s, "target": target}
    return {"peers": [about | measured | {"same_picks": same, "runs": len(seconds["ours"])}]}


def scaling_times(count: int) -> dict[str, list[float]]:
    """Seconds to choose 100 by each linear strategy, and to read all vectors as often as they do."""
    with mock.patch("simtune.graph.similarity.DENSE_TASKS", 0):
        graph = build(clustered(count))
    # A product with one vector: every number is read once.
    works = {"reading the vectors 100 times": lambda: [graph.vectors_ND @ graph.vectors_ND[0] for _ in range(100)]}
    works |= {name: lambda name=name: choose(graph, name, 100) for name in LINEAR}
    return interleaved({name: lambda work=work: work() and None for name, work in works.items()})


def matrix_rate() -> float:
    """Floating point operations a second of this machine's matrix product at its best."""
    square = np.ones((4096, 4096), dtype=np.float32)
    square @ square
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        square @ square
        taken.append(time.perf_counter() - started)
    return 2 * 4096**3 / min(taken)


def part_scaling() -> dict[str, Any]:
    """Seconds against the number of tasks, 1,000 to 1,000,000, choose 100, with what the machine could do at best."""
    rate, _ = in_own_process(matrix_rate)
    measured: dict[str, list[float]] = {}
    for count in COUNTS:
        seconds, peak_mib = in_own_process(scaling_times, count)
        for name, values in seconds.items():
            measured.setdefault(name, []).append(median(values))
        shown = ", ".join(f"{name} {values[-1]:.3f} s" for name, values in measured.items())
        print(f"{count:>9,} tasks, choose 100: {shown}; peak {peak_mib:.0f} MiB", flush=True)
    best = [2 * count * 100 * DIMENSIONS / rate for count in COUNTS]
    limits = {
        "reading the vectors 100 times": measured.pop("reading the vectors 100 times"),
        f"matrix product at {rate / 1e9:.0f} GFLOP/s": best,
    }
    series: list[dict[str, Any]] = [{"name": name, "x": COUNTS, "y": values} for name, values in measured.items()]
    series += [{"name": name, "x": COUNTS, "y": values, "limit": True} for name, values in limits.items()]
    return {"scaling": {"x": f"tasks of {DIMENSIONS} dimensions", "y": "seconds to choose 100", "series": series}}


def draw(scaling: dict[str, Any], output: Path) -> None:
    """The last part as a picture of its own."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for series, marker, line in zip(scaling["series"], (*"os^", "", ""), ("-", "-", "-", "--", ":"), strict=True):
        colour = "0.4" if series.get("limit") else None
        axes.plot(series["x"], series["y"], marker=marker, linestyle=line, color=colour, label=series["name"])
    axes.set(xscale="log", yscale="log", xlabel=scaling["x"], ylabel=scaling["y"])
    axes.legend(frameon=False)
    axes.grid(which="major", alpha=0.3)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=140)
    print(f"written: {output}")


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "pool": part_pool,
    "large": part_large,
    "facility": part_facility,
    "growth": part_growth,
    "apricot-select": partial(part_peer, "facility-location", "apricot-select", "apricot", 5000, 5, beside_apricot),
    "submodlib-py": partial(part_peer, "log-det", "submodlib-py", "submodlib", 2000, 3, beside_submodlib),
    "scaling": part_scaling,
}


def earlier(about: dict[str, Any], parts: Sequence[str]) -> dict[str, Any]:
    """What was measured of other parts, where it comes from this machine."""
    path = RESULTS / "selection.json"
    found = json.loads(path.read_text()) if path.is_file() else {}
    if found.get("machine") != about:
        found = {}
    return {
        "rows": [line for line in found.get("rows", []) if line["part"] not in parts],
        "peers": [line for line in found.get("peers", []) if line["peer"] not in parts],
        "growth": [] if "growth" in parts else found.get("growth", []),
        "scaling": None if "scaling" in parts else found.get("scaling"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="these only; the other rows stay as they are")
    parser.add_argument("--output", type=Path, default=FIGURE, help="the scaling plot")
    arguments = parser.parse_args()
    about = machine("numpy", "scipy", "apricot-select", "submodlib-py")
    parts = arguments.part or list(PARTS)
    tables = earlier(about, parts)
    for name in parts:
        for table, found in PARTS[name]().items():
            tables[table] = found if table == "scaling" else [*tables[table], *found]
        print(f"{name}: measured", flush=True)
    tables["rows"].sort(key=lambda line: list(PARTS).index(line["part"]))
    for table in ("rows", "peers", "growth"):
        if tables[table]:
            show(f"\nChoosing: {table}", tables[table], about)
    save("selection", tables.pop("rows"), about, **tables)
    if "scaling" in parts:
        draw(tables["scaling"], arguments.output)


if __name__ == "__main__":
    main()
