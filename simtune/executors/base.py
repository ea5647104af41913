"""Where a sweep's work runs: in this process, or on Ray.

`inline` needs no Ray and stops at breakpoints; it is also the reference that the Ray executor must equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

from simtune.config import Sweep
from simtune.drivers.claims import claim_cell, read_claim
from simtune.embedding.embed import EncodeTexts, encode_here
from simtune.errors import ConfigError, RunError
from simtune.graph.blocks import MapBlocks, map_blocks_here
from simtune.progress import Display
from simtune.storage.files import AnyPath
from simtune.training.precision import check_hardware
from simtune.trial.attempts import run_guarded
from simtune.trial.files import read_failure, read_score
from simtune.trial.run import SharedData, TrialSpec

ExecutorName = Literal["inline", "local", "cluster"]


@dataclass(frozen=True)
class Job:
    """A trial to run: its spec, what users call it, and which shared data it reads."""

    spec: TrialSpec
    label: str
    data: str


class Executor(Protocol):
    """Runs encoders and trials somewhere."""

    encode_texts: EncodeTexts
    map_blocks: MapBlocks

    def check(self, sweep: Sweep) -> list[str]:
        """Refuses what this executor cannot give, before anything starts; returns warnings."""

    def run(self, jobs: Sequence[Job], shared: dict[str, SharedData], sweep: Sweep, display: Display) -> None:
        """Runs jobs until each has its results or a `failure.json`."""

    def close(self) -> None: ...


class InlineExecutor:
    """Everything in this process, one trial after the other."""

    encode_texts: EncodeTexts = staticmethod(encode_here)
    map_blocks: MapBlocks = staticmethod(map_blocks_here)

    def check(self, sweep: Sweep) -> list[str]:
        if sweep.resources.workers > 1:
            raise ConfigError(
                f"resources.workers: {sweep.resources.workers}; the inline executor is one process. Use --executor "
                "local, or set resources.workers=1"
            )
        import torch

        return check_hardware(sweep, torch.cuda.is_available())

    def run(self, jobs: Sequence[Job], shared: dict[str, SharedData], sweep: Sweep, display: Display) -> None:
        from simtune.training.engine import single_process_world

        with _threads(sweep.resources.cpus_per_worker):
            world = single_process_world()
            for job in jobs:
                display.trial_started(job.spec.id, job.label)
                run_guarded(job.spec, shared[job.data], world, partial(display.trial_progress, job.spec.id))
                display.trial_ended(job.spec.id, outcome_of(job.spec.directory))

    def close(self) -> None:
        pass


@contextmanager
def _threads(cpus_per_worker: int | Literal["auto"]) -> Iterator[None]:
    """Trials get this many threads of torch, or all cores; a sweep that follows in this process starts as this one."""
    import torch

    before = torch.get_num_threads()
    if cpus_per_worker != "auto":
        torch.set_num_threads(cpus_per_worker)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def outcome_of(directory: AnyPath) -> str:
    """A few words on how a trial ended."""
    try:
        rouge_l = read_score(directory)
    except RunError as error:
        return f"failed: {error}"
    if rouge_l is not None:
        return f"ROUGE-L {rouge_l:.2f}"
    failure, _ = read_failure(directory)
    if failure is not None:
        return f"failed: {failure.told}"
    if read_claim(claim_cell(directory)) is not None:
        return "left to another driver that is at it"
    return "failed: no results were written"
