"""The interface of an executor: where the work of a sweep runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

import numpy as np

from simtune.config import Sweep
from simtune.drivers.trial_claims import read_claim
from simtune.embedding.cache import Encoded
from simtune.embedding.embed import OnProgress
from simtune.embedding.encoder import ResolvedEncoder
from simtune.errors import RunError
from simtune.evaluation.metric_registry import shown
from simtune.executors.hosts.host_reports import HostFacts, HostReport
from simtune.graph.blocks import T, Work
from simtune.progress import Display
from simtune.trial.files import read_outcome, read_overall
from simtune.trial.spec import SharedData, TrialSpec

ExecutorName = Literal["inline", "local", "cluster"]


@dataclass(frozen=True)
class Job:
    """A trial to run.

    Attributes:
        spec: the trial.
        label: what users call it.
        data: the key of the shared data that it reads.
    """

    spec: TrialSpec
    label: str
    data: str


class Executor(ABC):
    """Runs encoders, blocks of rows and trials somewhere.

    A context manager: leaving the `with` block stops what the executor has started. It can be entered again.

    Attributes:
        has_hosts: whether work runs on hosts of a cluster, which may differ from this one.
    """

    has_hosts = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stops what was started; by default there is nothing to stop."""
        return

    @abstractmethod
    def check(self, sweep: Sweep, display: Display) -> list[str]:
        """Refuses a sweep that this executor cannot run, before anything starts; waits for a cluster's first hosts.

        Args:
            sweep: the settings.
            display: where it is shown that hosts are waited for.

        Returns:
            Warnings.

        Raises:
            ConfigError: the executor lacks the resources that the sweep asks for.
            ClusterError: a cluster had too few hosts for longer than `resources.wait_minutes`.
        """

    def report_hosts(self, driver: HostFacts, needs: Mapping[str, object], on_progress: OnProgress) -> list[HostReport]:
        """What the hosts say of themselves, if there are any.

        Args:
            driver: what this process says of its host.
            needs: what a run needs of a host, as `simtune.executors.hosts.host_checks.check_host` takes it.
            on_progress: called with the number of hosts that have answered and of all.
        """
        return []

    @abstractmethod
    def encode_texts(
        self, texts: Sequence[str], resolved: ResolvedEncoder, batch_size: int, on_progress: OnProgress
    ) -> list[Encoded | str]:
        """Encodes texts; for each its vector, or the reason why it has none."""

    @abstractmethod
    def map_blocks(
        self, work: Work[T], arrays: Mapping[str, np.ndarray], starts: Sequence[tuple[int, int]]
    ) -> Iterator[T]:
        """Applies a function to blocks of rows; the results in the order of the blocks."""

    @abstractmethod
    def run(
        self, jobs: Sequence[Job], shared: dict[str, SharedData], sweep: Sweep, display: Display
    ) -> Mapping[str, str]:
        """Runs jobs until each trial has its results or a record of its failure.

        Args:
            jobs: the trials, in the order in which they start.
            shared: what trials read, by the jobs' `data`.
            sweep: whose resources are used.
            display: where progress is reported.

        Returns:
            The trials that were left out, because no host had room for them in time, by their ids, and why.
        """


def describe_outcome(spec: TrialSpec) -> str:
    """A few words on how a trial ended."""
    directory = spec.directory
    try:
        scores = [(score.suite, read_overall(directory, score.id)) for score in spec.scores]
    except RunError as error:
        return f"failed: {error}"
    found = [
        (f"{suite.name} " if len(scores) > 1 else "") + shown(suite.metrics[0], values[suite.metrics[0]])
        for suite, values in scores
        if values is not None
    ]
    if len(found) == len(scores):
        return ", ".join(found)
    for score in spec.scores:
        failure = read_outcome(directory, score.id).failure
        if failure is not None:
            of_suite = f"{score.suite.name}: " if failure.score and len(scores) > 1 else ""
            return f"failed: {of_suite}{failure.summary}"
    if spec.lease is not None and not spec.lease.held():
        return "this driver's run was taken over by another"
    claim = read_claim(directory)
    if claim is not None and (spec.lease is None or claim.token != spec.lease.token):
        return "another driver is running it"
    return "failed: no results were written"
