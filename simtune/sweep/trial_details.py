"""What a report shows of a single trial, from the trial's own files."""

from __future__ import annotations

from simtune.errors import RunError
from simtune.report.answers import ReadDetail, TrialDetail
from simtune.storage.file_types import has_file
from simtune.storage.files import AnyPath
from simtune.storage.parquet_files import read_table
from simtune.trial.files import PREDICTIONS, read_metrics, score_folder


def detail_reader(trials: AnyPath) -> ReadDetail:
    """Reads losses and answers of one score after another.

    Args:
        trials: the folder of all trials of the storage.
    """

    def read(trial: str, score: str) -> TrialDetail | None:
        directory = trials / trial
        metrics = read_metrics(directory, score)
        if metrics is None:
            return None
        losses = metrics.training.losses if metrics.training else ()
        path = score_folder(directory, score) / PREDICTIONS
        if not has_file(path):
            return TrialDetail(losses, problem=f"{path}: no such file")
        try:
            return TrialDetail(losses, read_table(path))
        except RunError as error:
            # The scores stand without them; `simtune doctor` lists damaged files.
            return TrialDetail(losses, problem=str(error))

    return read
