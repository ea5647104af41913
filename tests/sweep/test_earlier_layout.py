"""A small run that was written with the first layout of files can still be read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from json_files import read_json

from simtune.inspection.doctor import diagnose
from simtune.inspection.status import run_status
from simtune.progress import Quiet
from simtune.sweep.results import report_run
from simtune.trial.files import read_identity

LAYOUT = Path(__file__).resolve().parents[1] / "fixtures" / "layout-1"


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    shutil.copytree(LAYOUT, tmp_path / "runs")
    return tmp_path / "runs" / "small"


def test_status_doctor_and_report_read_it(run_directory: Path) -> None:
    status = run_status(run_directory)
    assert (len(status.trials), status.count("done")) == (2, 2)
    assert {suite for trial in status.trials for suite in trial.scores} == {"test", "museum"}
    assert diagnose(run_directory, Quiet()).findings == ()
    page = report_run(run_directory).read_text()
    assert "museum" in page


def test_models_and_scores_have_the_names_that_their_identities_give(run_directory: Path) -> None:
    trials = run_directory.parent / "trials"
    models, scores = list(trials.glob("*/model.json")), list(trials.glob("*/scores/*/score.json"))
    assert (len(models), len(scores)) == (2, 4)
    # Reading compares the hash of what is in the file with the folder's name.
    assert all(read_identity(path) for path in (*models, *scores))
    trained = [path.parent for path in models if (path.parent / "training.json").exists()]
    assert [read_json(trial / "training.json")["model"] for trial in trained] == [trial.name for trial in trained]
