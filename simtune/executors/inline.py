"""The inline executor: everything in this process, one trial after another.

It needs no Ray and stops at breakpoints. It is also the reference: the Ray executor must give the same results.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Literal

import numpy as np

from simtune.config import Sweep
from simtune.embedding.cache import Encoded
from simtune.embedding.embed import OnProgress, encode_here
from simtune.embedding.encoder import ResolvedEncoder
from simtune.errors import ConfigError
from simtune.executors.base import Executor, Job, describe_outcome
from simtune.graph.blocks import T, Work, map_blocks_here
from simtune.progress import Display
from simtune.training.precision import check_hardware
from simtune.training.process_memory import released_between_trials
from simtune.trial.attempts import attempt_trial
from simtune.trial.spec import SharedData


class InlineExecutor(Executor):
    """Runs everything in this process, one trial after another."""

    def check(self, sweep: Sweep, display: Display) -> list[str]:
        if sweep.resources.workers > 1:
            raise ConfigError(
                f"{sweep.resources.workers}, but the inline executor is a single process. Use "
                "--executor local, or set resources.workers=1",
                field="resources.workers",
            )
        import torch

        return check_hardware(sweep, torch.cuda.is_available())

    def encode_texts(
        self, texts: Sequence[str], resolved: ResolvedEncoder, batch_size: int, on_progress: OnProgress
    ) -> list[Encoded | str]:
        return encode_here(texts, resolved, batch_size, on_progress)

    def map_blocks(
        self, work: Work[T], arrays: Mapping[str, np.ndarray], starts: Sequence[tuple[int, int]]
    ) -> Iterator[T]:
        return map_blocks_here(work, arrays, starts)

    def run(
        self, jobs: Sequence[Job], shared: dict[str, SharedData], sweep: Sweep, display: Display
    ) -> Mapping[str, str]:
        from simtune.training.engine import single_process_world

        with _torch_threads(sweep.resources.cpus_per_worker), released_between_trials() as release_memory:
            world = single_process_world()
            for job in jobs:
                display.trial_started(job.spec.id, job.label)
                attempt_trial(job.spec, shared[job.data], world, partial(display.trial_progress, job.spec.id))
                display.trial_ended(job.spec.id, describe_outcome(job.spec))
                release_memory()
        return {}


@contextmanager
def _torch_threads(cpus_per_worker: int | Literal["auto"]) -> Iterator[None]:
    """Sets the number of torch's threads, by default all cores; restores it afterwards."""
    import torch

    before = torch.get_num_threads()
    if cpus_per_worker != "auto":
        torch.set_num_threads(cpus_per_worker)
    try:
        yield
    finally:
        torch.set_num_threads(before)
