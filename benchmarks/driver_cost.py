"""What the driver costs a trial, with trials that take no time: seconds, memory, operations on the storage, bytes.

    python benchmarks/driver_cost.py                        100, 1,000 and 10,000 trials on a local disk
    python benchmarks/driver_cost.py --trials 1000 --profile

The driver runs for real (tasks, subsets, planning, tables, report), on a made-up corpus of 600 tasks with 119 of them
held out. Only its executor is the benchmark's own: it encodes at random and writes the results of a trial at once, with
the functions that a worker calls. What these functions take is not the driver's, and has columns of its own. `again` is
the same command once all trials are done.
"""

from __future__ import annotations

import argparse
import cProfile
import hashlib
import json
import os
import pstats
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from harness import in_own_process, machine, save, show

from simtune.config import Sweep
from simtune.drivers.trial_claims import claim_trial, release_claim
from simtune.embedding.cache import Encoded
from simtune.embedding.embed import OnProgress
from simtune.embedding.encoder import ResolvedEncoder
from simtune.evaluation.prediction_shards import Prediction
from simtune.executors.base import Executor, Job, describe_outcome
from simtune.graph.blocks import T, Work, map_blocks_here
from simtune.progress import Display, Quiet
from simtune.storage.files import write_once
from simtune.storage.records import record_bytes
from simtune.sweep.run import run_sweep
from simtune.trial.files import TRAINING, identity_bytes
from simtune.trial.records import TrainedModel, Training
from simtune.trial.scoring import answered, write_score
from simtune.trial.spec import SharedData, TrialSpec

TRIALS = (100, 1000, 10_000)
TASKS, TEST_TASKS, INSTANCES, SIZES = 600, 119, 4, (10, 20, 50, 100, 200)
MODEL = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}


class Operations:
    """Counts what this process does below a folder: opened, listed, renamed, linked and removed files, and stats."""

    def __init__(self, folder: Path) -> None:
        self.counts: Counter[str] = Counter()
        self.who = "driver"
        self._folder = str(folder)
        sys.addaudithook(self._audit)
        for name in ("stat", "lstat"):
            setattr(os, name, self._counting(getattr(os, name)))

    def total(self, who: str) -> int:
        return sum(number for name, number in self.counts.items() if name.startswith(who))

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in {"open", "os.listdir", "os.scandir", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir"}:
            self._count(event, arguments[0])

    def _counting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counting(path: Any, *arguments: Any, **options: Any) -> Any:
            self._count("stat", path)
            return function(path, *arguments, **options)

        return counting

    def _count(self, what: str, path: Any) -> None:
        if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self._folder):
            self.counts[f"{self.who} {what}"] += 1


class InstantTrials(Executor):
    """Encodes at random, and gives every trial results at once."""

    def __init__(self, counting: Any) -> None:
        """Makes an executor whose `counting.who` is `worker` while it writes results, and else `driver`."""
        self._counting = counting
        self.seconds = self.cpu_s = 0.0
        self.num_bytes = 0

    def check(self, sweep: Sweep, display: Display) -> list[str]:
        return []

    def encode_texts(
        self, texts: Sequence[str], resolved: ResolvedEncoder, batch_size: int, on_progress: OnProgress
    ) -> list[Encoded | str]:
        vectors_ND = np.random.default_rng(0).normal(size=(len(texts), 384)).astype(np.float32)
        vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
        return [Encoded(vector_D, 100, 256) for vector_D in vectors_ND]

    def map_blocks(
        self, work: Work[T], arrays: Mapping[str, np.ndarray], starts: Sequence[tuple[int, int]]
    ) -> Iterator[T]:
        return map_blocks_here(work, arrays, starts)

    def run(
        self, jobs: Sequence[Job], shared: dict[str, SharedData], sweep: Sweep, display: Display
    ) -> Mapping[str, str]:
        for job in jobs:
            display.trial_started(job.spec.id, job.label)
            with self._as_worker():
                write_results(job.spec, shared[job.data])
            display.trial_ended(job.spec.id, describe_outcome(job.spec))
        return {}

    @contextmanager
    def _as_worker(self) -> Iterator[None]:
        started, cpu, moved = time.perf_counter(), time.process_time(), bytes_moved()
        self._counting.who = "worker"
        yield
        self._counting.who = "driver"
        self.seconds += time.perf_counter() - started
        self.cpu_s += time.process_time() - cpu
        self.num_bytes += bytes_moved() - moved


def bytes_moved() -> int:
    """Bytes that this process has read and written so far, in files or elsewhere."""
    counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counts["rchar"]) + int(counts["wchar"])


def write_results(spec: TrialSpec, shared: SharedData) -> None:
    """Writes what a worker writes for a trial that answers every instance with the same word."""
    assert spec.lease is not None
    claim_trial(spec.directory, spec.lease)
    training = None
    if spec.tasks:
        training = Training(
            num_examples=10,
            num_source_tokens=1000,
            num_target_tokens=100,
            num_steps=100,
            loss_by_epoch=(1.0,),
            losses=(1.0,) * 100,
            accumulation_steps=1,
        )
    costs = {"workers": 1, "device": "cpu", "threads": 1, "train_s": 1.0, "evaluate_s": 1.0}
    for score in spec.scores:
        data = shared.suites[score.prompts]
        records = answered(data, {number: Prediction("word", 1) for number in range(len(data.records))})
        write_score(spec, score, records, training, costs, [1] * len(records), {})
    if training is not None:
        identity = hashlib.sha256(identity_bytes(spec.id, spec.identity)).hexdigest()
        trained = TrainedModel(model=spec.id, training=training, identity=identity)
        write_once(spec.directory / TRAINING, record_bytes(trained))
    release_claim(spec.directory)


def write_corpus(root: Path) -> None:
    (root / "tasks").mkdir(parents=True)
    (root / "splits/default").mkdir(parents=True)
    names = [f"task{number:05}_made_up" for number in range(TASKS)]
    for number, name in enumerate(names):
        instances = [
            {"id": f"{name}-{i}", "input": f"word {number} {i}", "output": [f"yes {i}"]} for i in range(INSTANCES)
        ]
        task = {
            "Definition": [f"Do {hashlib.sha256(name.encode()).hexdigest()}."],
            "Categories": [f"Category {number % 50}"],
        }
        (root / "tasks" / f"{name}.json").write_text(json.dumps(task | {"Source": [name], "Instances": instances}))
    (root / "splits/default/train_tasks.txt").write_text("\n".join(names[:-TEST_TASKS]))
    (root / "splits/default/test_tasks.txt").write_text("\n".join(names[-TEST_TASKS:]))


def sweep_of(folder: Path, trials: int) -> Sweep:
    return Sweep.model_validate(
        {
            "name": "instant",
            "corpus": {"path": str(folder / "corpus"), "min_instances": 1, "instances_per_task": INSTANCES},
            "leakage": "allow",
            "selection": {"strategies": ["random"], "sizes": list(SIZES), "seeds": list(range(trials // len(SIZES)))},
            "model": {"init": "random", "tokenizer": "pool", "vocab_size": 500, "config": MODEL},
            "encoding": {"positive": 0},
            "training": {"max_source_tokens": 64, "max_target_tokens": 8, "precision": "fp32", "zero_stage": 0},
            "evaluation": {"instances_per_task": INSTANCES},
            "baselines": [],
            "storage": str(folder / "runs"),
        }
    )


def measured(folder: Path, trials: int, profile: bool = False) -> dict[str, Any]:
    """One sweep of that many trials in this process, and the same again when all of them are done."""
    operations = Operations(folder / "runs")
    sweep, executor = sweep_of(folder, trials), InstantTrials(operations)
    profiler = cProfile.Profile()
    if profile:
        profiler.enable()
    started, cpu, moved = time.perf_counter(), time.process_time(), bytes_moved()
    run_sweep(sweep, executor, Quiet())
    driver_bytes = bytes_moved() - moved - executor.num_bytes
    seconds = time.perf_counter() - started - executor.seconds
    cpu_s = time.process_time() - cpu - executor.cpu_s
    driver, worker = operations.total("driver"), operations.total("worker")
    started, cpu, moved = time.perf_counter(), time.process_time(), bytes_moved()
    outcome = run_sweep(sweep, executor, Quiet())
    again_s, again_cpu_s = time.perf_counter() - started, time.process_time() - cpu
    again_bytes = bytes_moved() - moved
    if profile:
        profiler.disable()
        pstats.Stats(profiler).sort_stats("cumulative").print_stats(60)
        print(operations.counts)
    assert outcome.num_run == outcome.num_failed == 0
    return {
        "trials": trials,
        "driver_s": seconds,
        "driver_cpu_s": cpu_s,
        "driver_operations": driver,
        "driver_bytes": driver_bytes,
        "again_s": again_s,
        "again_cpu_s": again_cpu_s,
        "again_operations": operations.total("driver") - driver,
        "again_bytes": again_bytes,
        "worker_s": executor.seconds,
        "worker_cpu_s": executor.cpu_s,
        "worker_operations": worker,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, nargs="*", default=TRIALS)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    about = machine("pyarrow", "numpy", "pydantic")
    rows = []
    for trials in arguments.trials:
        with tempfile.TemporaryDirectory() as folder:
            write_corpus(Path(folder) / "corpus")
            row, peak_mib = in_own_process(measured, Path(folder), trials, arguments.profile)
        rows.append({**row, "peak_mib": peak_mib})
    show("The driver's cost of instant trials", rows, about)
    if tuple(arguments.trials) == TRIALS and not arguments.profile:
        first, last = rows[0], rows[-1]
        more = last["trials"] - first["trials"]
        per_trial = {name: (last[name] - first[name]) / more for name in first if name != "trials"}
        save("driver_cost", rows, about, per_trial=[per_trial])


if __name__ == "__main__":
    main()
