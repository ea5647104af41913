"""A trial as plain values, to be sent to other processes, and the data that its workers read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from simtune.config import Sweep
from simtune.config.evaluation import Suite
from simtune.drivers.run_lease import LeaseToken
from simtune.errors import LeaseLostError
from simtune.evaluation.metrics import Tokenize
from simtune.evaluation.scores import PredictionRecord
from simtune.prompting.tokenizer import TextTokenizer
from simtune.storage.files import AnyPath
from simtune.training.examples import TokenisedTasks
from simtune.training.model import ResolvedModel

OnProgress = Callable[[dict[str, Any]], None]
"""Called with `phase`, `completed`, `total` and, in training, `loss`; at the same points on every worker.

Not `done`: Tune ends a trial whose report has a true `done`.
"""


@dataclass(frozen=True)
class SuiteData:
    """The prompts of one suite, tokenised, and what their answers are scored with."""

    test: TokenisedTasks
    records: tuple[PredictionRecord, ...]


@dataclass(frozen=True)
class SharedData:
    """What all trials of a grid point read. Made once on the driver, put into Ray's object store once.

    Attributes:
        held_in: the instances of pool tasks that are set aside; None if there are none.
        suites: by `ScoreSpec.prompts`.
        rouge_tokenizers: by their fingerprint, which a score's identity has.
    """

    pool: TokenisedTasks
    held_in: SuiteData | None
    suites: Mapping[str, SuiteData]
    tokenizer: TextTokenizer
    model: ResolvedModel
    rouge_tokenizers: Mapping[str, Tokenize]


@dataclass(frozen=True)
class ScoreSpec:
    """A score that a trial must compute.

    Attributes:
        id: 16 hexadecimal digits of the identity's SHA-256.
        identity: everything that decides the score, ready for JSON.
        tokens_per_batch: source tokens, padding counted, that a worker answers together.
        prompts: names the tokenised prompts that it needs; scores of several suites or grid points may share them.
    """

    id: str
    suite: Suite
    identity: dict[str, Any]
    tokens_per_batch: int
    prompts: str


@dataclass(frozen=True)
class TrialSpec:
    """A model to train or to load, and the scores to compute.

    Attributes:
        scores: at least one; those that exist already are not computed again.
        saved_epoch: the epoch whose saved weights are scored, instead of training again; None trains.
        lease: its driver's, without which nothing may be written; None if no other process can know the directory.
        dead_drivers: tokens of drivers that claimed trials and have stopped renewing their leases since.
        retrain: whether the model is trained again if another driver has trained it and did not save its weights.
    """

    id: str
    kind: str
    identity: dict[str, Any]
    tasks: tuple[str, ...]
    seed: int
    sweep: Sweep
    accumulation_steps: int
    directory: AnyPath
    scores: tuple[ScoreSpec, ...]
    saved_epoch: int | None = None
    lease: LeaseToken | None = None
    dead_drivers: frozenset[str] = frozenset()
    retrain: bool = False

    @property
    def driver(self) -> str:
        """Names the run of the driver that its attempts belong to."""
        return self.lease.token if self.lease else ""

    def check_lease(self) -> None:
        """Raises LeaseLostError if another driver has taken over."""
        if self.lease is not None and not self.lease.held():
            raise LeaseLostError(f"trial {self.id}: its driver lost its run to another; nothing was written")
