"""What the run of a sweep has of its trials, without embedding a task or loading a model.

Which tasks an arm has is not known before that, so this goes by what the run chose, where a run would choose the same
again. A trial's name is recomputed from its settings and the texts of its tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from simtune.config import Sweep
from simtune.errors import RunError
from simtune.evaluation.xlingual import Gpt2Tokenize
from simtune.grid.choice_records import arm_fingerprints, choice_fingerprint, model_fingerprint
from simtune.grid.grid_points import PointTasks
from simtune.grid.rouge_tokenizers import RougeTokenizers
from simtune.selection.subsets import FULL_ARM
from simtune.storage.files import as_path, child_names, fingerprint
from simtune.storage.many_files import read_each
from simtune.sweep.missing_trials import UnsavedModel, is_wanted, unsaved_model
from simtune.sweep.results import Planned
from simtune.sweep.run_files import Manifest, NoRunError, read_manifest
from simtune.sweep.trials import TrialKind, model_identity, score_identities
from simtune.trial.earlier_training import earlier_training
from simtune.trial.files import MODEL, read_failure, read_identity, read_overall

TrialStatus = Literal["done", "failed", "unsaved", "missing", "damaged"]
"""A run makes what is `missing`; it leaves out what `failed` for good, and scores of a model that was not saved.

It refuses to start where anything is `damaged`.
"""


class TrialKey(NamedTuple):
    """What tells the trials of a grid point apart; the size is None for the whole pool and for baselines."""

    kind: TrialKind
    arm: str
    size: int | None
    seed: int | None


@dataclass(frozen=True)
class TrialState:
    """What there is of a trial.

    Attributes:
        suites: whose scores a run would make now, where any is missing; None are all.
        trains: whether a run would train it first, where a score is missing.
        unsaved: the cost of training it again, where its weights were not saved.
        problems: of each damaged result, and what to do.
        doubt: why it may be done all the same; empty if that is known.
    """

    status: TrialStatus = "missing"
    suites: frozenset[str] | None = None
    trains: bool = True
    unsaved: UnsavedModel | None = None
    problems: tuple[str, ...] = ()
    doubt: str = ""


class EarlierRun:
    """The run of a sweep that an earlier command started."""

    def __init__(self, planned: Planned, manifest: Manifest, sweep: Sweep) -> None:
        self._trials = as_path(sweep.storage) / "trials"
        arms = arm_fingerprints(sweep.selection)
        self._same_arms = {name for name, found in arms.items() if manifest.arms.get(name) == found} | {FULL_ARM}
        self._started = child_names(self._trials)
        self._tokenizers = RougeTokenizers()
        self._identities: dict[str, dict[str, Any] | None] = {}
        self._damaged: dict[str, str] = {}
        baselines = {arm.name for arm in planned.metadata.arms if arm.type == "baseline"}
        points = _points_of(planned, manifest)
        self._known: dict[TrialKey, dict[str, list[dict[str, Any]]]] = {}
        for row in planned.rows:
            kind: TrialKind = row["arm"] if row["arm"] in baselines else "fine-tune"
            key = TrialKey(kind, row["arm"], None if row["arm"] == FULL_ARM else row["size"], row["seed"])
            self._known.setdefault(key, {})[row["trial"]] = points(row)

    @staticmethod
    def read(sweep: Sweep) -> EarlierRun | None:
        """The run of a sweep; None if there is none that has planned its trials.

        Raises:
            RunError: its files are damaged.
            StoreError: its storage cannot be read.
        """
        run_directory = as_path(sweep.storage) / sweep.name
        try:
            manifest = read_manifest(run_directory)
        except NoRunError:
            return None
        return EarlierRun(Planned.read(run_directory), manifest, sweep)

    def states(self, point: PointTasks, keys: Sequence[TrialKey]) -> list[TrialState]:
        """What there is of the trials at these keys of a grid point; reads a few small files of each."""
        candidates = self._candidates(point, dict.fromkeys(keys))
        unread = {trial for found in candidates.values() for trial in found if trial not in self._identities}
        self._identities |= read_each(self._trials, sorted(unread), self._read_identity)
        same = {
            key: trial for key, found in candidates.items() for trial in found if self._is_same(trial, point, key.kind)
        }
        doubtful = self._doubtful(candidates, same)
        # Another trial of its kind has the settings, the model and the tokenizer of this point. Its tasks follow from
        # the rest of its key.
        kinds = {key.kind for key in same}
        same |= {key: trial for key, trial in doubtful.items() if key.kind in kinds}
        tokenizers = self._tokenizers.of_suites(point.sweep) if same else {}
        read = read_each(self._trials, same.items(), lambda each: self._state(each[1], each[0].kind, point, tokenizers))
        doubts = {key: TrialState(doubt=self._damaged[trial]) for key, trial in doubtful.items()}
        return [read[key, same[key]] if key in same else doubts.get(key, TrialState()) for key in keys]

    def _doubtful(self, candidates: Mapping[TrialKey, list[str]], same: Mapping[TrialKey, str]) -> dict[TrialKey, str]:
        """The only trial made for a key, where its identity cannot be read; a run does not read that of a result."""
        return {
            key: found[0]
            for key, found in candidates.items()
            if key not in same and len(found) == 1 and found[0] in self._damaged
        }

    def _candidates(self, point: PointTasks, keys: Iterable[TrialKey]) -> dict[TrialKey, list[str]]:
        """Trials of the run that were made for each key, from the same model settings and by the same choice."""
        model = {"model_settings": model_fingerprint(point)}
        follows_from = {"fine-tune": {**model, "choice": choice_fingerprint(point)}, "untuned": model}
        found: dict[TrialKey, list[str]] = {}
        for key in keys:
            wanted = follows_from.get(key.kind, {}).items()
            same_arm = key.kind != "fine-tune" or key.arm in self._same_arms
            found[key] = [
                trial
                for trial, points in self._known.get(key, {}).items()
                if same_arm and trial in self._started and any(wanted <= values.items() for values in points)
            ]
        return found

    def _read_identity(self, trial: str) -> dict[str, Any] | None:
        try:
            return read_identity(self._trials / trial / MODEL)
        except RunError as error:
            self._damaged[trial] = str(error)
            return None

    def _is_same(self, trial: str, point: PointTasks, kind: TrialKind) -> bool:
        """Whether the settings of a grid point, its texts and the model and tokenizer of a trial give its name."""
        stored = self._identities[trial]
        if stored is None:
            return False
        names = tuple(stored.get("train_tasks", ()))
        if not point.pool_by_name.keys() >= set(names):
            return False
        model, tokenizer = stored.get("model", ""), stored.get("tokenizer", "")
        identity, _ = model_identity(point, kind, names, stored.get("seed", 0), model, tokenizer)
        return fingerprint(identity)[:16] == trial

    def _state(
        self, trial: str, kind: TrialKind, point: PointTasks, tokenizers: Mapping[str, Gpt2Tokenize]
    ) -> TrialState:
        directory = self._trials / trial
        scores = {
            suite.name: fingerprint(identity)[:16]
            for suite, identity in score_identities(trial, kind, point, tokenizers)
        }
        lacking, problems = {}, []
        for suite, score in scores.items():
            try:
                if read_overall(directory, score) is None:
                    lacking[suite] = score
            except RunError as error:
                problems.append(str(error))
        if problems:
            return TrialState("damaged", problems=tuple(problems))
        if not lacking:
            return TrialState("done")
        try:
            suites = frozenset(
                suite for suite, score in lacking.items() if is_wanted(read_failure(directory, score)[0])
            )
            if not suites:
                return TrialState("failed")
            epoch, trained = earlier_training(directory) if kind == "fine-tune" else (None, None)
        except RunError as error:
            return TrialState("damaged", problems=(str(error),))
        if trained is not None:
            return TrialState("unsaved", unsaved=unsaved_model(trained, len(suites)))
        return TrialState("missing", suites, trains=kind == "fine-tune" and epoch is None)


def _points_of(planned: Planned, manifest: Manifest) -> Callable[[dict[str, Any]], list[dict[str, Any]]]:
    """From a row to what the manifest has of its grid points: several where a setting does not decide it."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}

    def points(row: dict[str, Any]) -> list[dict[str, Any]]:
        values = tuple(row[key] for key in planned.grid_keys)
        if values not in found:
            decided = {key: row[key] for key in planned.grid_keys if row[key] is not None}.items()
            found[values] = [
                point for point in manifest.grid_points.values() if decided <= point.get("values", {}).items()
            ]
        return found[values]

    return points
