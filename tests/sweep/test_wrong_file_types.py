"""A folder, a broken link, a pipe or a file where a run expects something else: refused before any work."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from simtune.config import load_sweep
from simtune.errors import RunError, SimtuneError
from simtune.executors.inline import InlineExecutor
from simtune.inspection.doctor import diagnose
from simtune.inspection.status import run_status
from simtune.progress import Quiet
from simtune.storage.files import remove_tree
from simtune.sweep.results import report_run
from simtune.sweep.run import run_sweep
from simtune.trial import attempts as guarded
from simtune.trial.findings import Found, trial_findings
from sweeps import only_score

# Of the storage; RUN and TRIAL stand for one of each.
FILES = (
    *("RUN/sweep.yaml", "RUN/manifest.json", "RUN/checksums.json", "RUN/results.parquet", "RUN/subsets.parquet"),
    *("RUN/results.csv", "RUN/results.md", "RUN/statistics.json", "RUN/report/index.html"),
    "RUN/report/figures/scores_by_size.svg",
    *("RUN/splits/subsets.json", "RUN/.lease", ".guard"),
)
TRIAL_FILES = (
    *("SCORE/metrics.json", "SCORE/score.json", "SCORE/predictions.parquet", "SCORE/costs.json"),
    *("SCORE/failure.json", "model.json", "training.json", "failure.json", ".claim"),
    *("attempts/1.json", "attempts/1.log", "weights/epoch-1/complete.json", "weights/epoch-1/config.json"),
)
FOLDERS = ("trials", "cache", "cache/tokens", "RUN/report", "RUN/report/figures", "RUN/splits", "RUN/graph", "RUN/.ray")
TRIAL_FOLDERS = (
    *("", "attempts", "weights", "weights/epoch-1", "checkpoints", "checkpoints/step-3"),
    *("scores", "SCORE", "SCORE/predictions.parts"),
)
REPORTED = {"trials", "RUN/manifest.json", "RUN/results.parquet", "RUN/report", "RUN/report/index.html"}
PUT: dict[str, Callable[[Path], object]] = {
    "folder": lambda path: path.mkdir(),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "pipe": lambda path: os.mkfifo(path),
    "file": lambda path: path.write_text("{}"),
}
SAID = {"folder": "is a folder", "dangling link": "is a broken link", "pipe": "is a pipe"}
SAID["file"] = "is a file"


@pytest.fixture
def trial(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The trained trial of a finished run; no other is trained after it."""
    monkeypatch.setattr(guarded, "run_trial", lambda *_: pytest.fail("trained"))
    (kept,) = finished.glob("trials/*/weights")
    return kept.parent


def put(path: Path, what: str) -> None:
    remove_tree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    PUT[what](path)


def refused(storage: Path) -> str:
    with pytest.raises(RunError) as caught:
        run_sweep(load_sweep(storage / "sweep-file.yaml", (f"storage={storage}",)), InlineExecutor(), Quiet())
    return str(caught.value)


def follow_advice(trial: Path, scores: list[str]) -> None:
    """Does what doctor says of each finding in a trial."""
    found = Found()
    found.extend(trial_findings(trial, scores, (), found))
    for finding in found.findings:
        advice = re.match(r"(?:move|remove) (\S+?);? ", finding.remedy)
        assert advice is not None
        remove_tree(Path(finding.path if advice[1].startswith("it") else advice[1]))


def is_found(path: Path, run_directory: Path) -> bool:
    findings = [each for each in diagnose(run_directory, Quiet()).findings if each.path == str(path)]
    return [bool(each.problem and each.remedy) for each in findings] == [True]


@pytest.mark.parametrize("what", PUT)
def test_a_wrong_file_type_in_a_run_or_a_storage_is_refused_and_found(trial: Path, what: str) -> None:
    storage, run_directory = trial.parents[1], trial.parents[1] / "tiny"
    kept = shutil.copytree(storage, storage.with_name("as-it-was"))
    for name in FOLDERS if what == "file" else (*FILES, *(FOLDERS if what != "folder" else ())):
        path = storage / name.replace("RUN", "tiny")
        put(path, what)
        message = refused(storage)
        file_type = "folder" if name in FOLDERS else "file"
        assert f"{path} {SAID[what]}, not a {file_type}. Move it aside" in message, name
        assert is_found(path, run_directory), name
        for read in (run_status, *([report_run] if name in REPORTED else [])):
            # One message where a driver is needed, and nothing else.
            with suppress(SimtuneError):
                read(run_directory)
        shutil.rmtree(storage)
        shutil.copytree(kept, storage)
    assert diagnose(run_directory, Quiet()).findings == ()


@pytest.mark.parametrize("what", PUT)
def test_a_wrong_file_type_in_a_trial_is_refused_before_training_and_found(trial: Path, what: str) -> None:
    storage, run_directory = trial.parents[1], trial.parents[1] / "tiny"
    kept = shutil.copytree(trial, storage / "as-it-was")
    score = only_score(trial).name
    for name in TRIAL_FOLDERS if what == "file" else (*TRIAL_FILES, *(TRIAL_FOLDERS if what != "folder" else ())):
        path = trial / name.replace("SCORE", f"scores/{score}")
        put(path, what)
        assert is_found(path, run_directory), name
        assert len(run_status(run_directory).trials) == 3
        if name in {"SCORE/metrics.json", "attempts", ""}:
            # All alike: `run` looks at them in one place.
            message = refused(storage)
            assert re.search(f"{path} {SAID[what]}, not a (file|folder). Move it aside", message), name
        follow_advice(trial, [score])
        # Of a removed trial, which is run again.
        assert list(trial_findings(trial, [score], (), Found())) == [], name
        remove_tree(trial)
        shutil.copytree(kept, trial)
    assert diagnose(run_directory, Quiet()).findings == ()
