"""Only intact files of a trial are used: a changed bit, another trial's file, a lost record."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from displays import RecordingDisplay

from simtune.config import load_sweep
from simtune.errors import RunError
from simtune.executors.inline import InlineExecutor
from simtune.inspection.doctor import diagnose
from simtune.inspection.status import run_status
from simtune.progress import Quiet
from simtune.storage.checksummed import checksummed_json
from simtune.storage.files import json_text
from simtune.storage.parquet_files import read_table
from simtune.storage.records import read_record, write_record
from simtune.sweep.results import report_run
from simtune.sweep.run import RunOutcome, run_sweep
from simtune.trial.failures import attempts_of, record_attempt
from simtune.trial.files import read_metrics
from simtune.trial.findings import Found, trial_findings
from simtune.trial.records import Attempt, Costs, Failure
from sweeps import only_score

NUM_BITS = 150
SCORE_FILES = ("metrics.json", "score.json", "predictions.parquet", "costs.json")


def trial(storage: Path, arm: str) -> Path:
    rows = read_table(storage / "tiny" / "results.parquet").to_pylist()
    (row,) = [row for row in rows if row["arm"] == arm]
    return storage / "trials" / row["trial"]


def run_again(storage: Path) -> tuple[RunOutcome, list[str]]:
    """Runs the sweep again; returns what it left, and its warnings."""
    display = RecordingDisplay()
    sweep = load_sweep(storage / "sweep-file.yaml", (f"storage={storage}",))
    return run_sweep(sweep, InlineExecutor(), display), display.warnings


def damages(path: Path) -> Iterator[bytes]:
    """A file with some of its bits flipped, one at a time, and cut short; restored at the end."""
    data = path.read_bytes()
    chosen = random.Random(path.name).sample(range(8 * len(data)), NUM_BITS)
    # Formats are recognised by their first and last bytes.
    for bit in (*chosen, *range(64), *range(8 * len(data) - 64, 8 * len(data))):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)
    yield from (data[:length] for length in (0, 1, len(data) // 2, len(data) - 1))
    path.write_bytes(data)


@pytest.mark.parametrize("name", [*SCORE_FILES, "model.json", "training.json"])
def test_every_changed_bit_of_a_trial_is_a_finding_with_a_remedy(finished: Path, name: str) -> None:
    directory = trial(finished, "random")
    score = only_score(directory)
    folder = score if name in SCORE_FILES else directory
    remedy = "remove it" if name == "costs.json" else f"move {folder} aside"
    for damaged in damages(folder / name):
        (folder / name).write_bytes(damaged)
        (finding,) = trial_findings(directory, [score.name], {score.name}, Found())
        assert Path(finding.path) == folder / name
        assert remedy in finding.remedy
        if name == "metrics.json":
            with pytest.raises(RunError, match=f"metrics.json: damaged: .*; move {folder} aside and run again"):
                read_metrics(directory, score.name)
    assert diagnose(finished / "tiny", Quiet()).findings == ()


def test_a_damaged_result_stops_a_run_before_it_trains_and_every_other_reader(finished: Path) -> None:
    directory = trial(finished, "random")
    result = only_score(directory) / "metrics.json"
    data = result.read_bytes()
    table = (finished / "tiny" / "results.parquet").read_bytes()
    # A digit of a score that nothing recomputes in a run.
    changed = data.replace(b'"rouge-l": ', b'"rouge-l": 1', 1)
    assert changed != data
    result.write_bytes(changed)
    with pytest.raises(RunError, match=r"metrics\.json: damaged: .* aside and run again"):
        run_again(finished)
    assert result.read_bytes() == changed
    assert (finished / "tiny" / "results.parquet").read_bytes() == table
    status = {each.trial: each for each in run_status(finished / "tiny").trials}
    assert status[directory.name].status == "damaged"
    assert "aside and run again" in status[directory.name].error
    # The refused run had begun, and a report reads its results.
    with pytest.raises(RunError, match=r"metrics\.json: damaged"):
        report_run(finished / "tiny")


@pytest.mark.parametrize("name", [*SCORE_FILES, "model.json", "scores", ""])
def test_swapped_files_of_two_trials_are_found(finished: Path, name: str) -> None:
    trials = trial(finished, "random"), trial(finished, "copy-input")
    one, two = map(only_score, trials) if name in SCORE_FILES else trials
    aside = one.with_name("aside")
    shutil.move(one / name, aside)
    shutil.move(two / name, one / name)
    shutil.move(aside, two / name)
    found = {Path(finding.path) for finding in diagnose(finished / "tiny", Quiet()).findings}
    assert all(any(place in (path, *path.parents) for path in found) for place in trials)
    if name == "metrics.json":
        with pytest.raises(RunError, match=rf"{two.name}/metrics.json: belongs to score {one.name} of trial"):
            run_again(finished)


def test_no_report_is_made_of_files_that_another_run_wrote(finished: Path) -> None:
    run_again(finished)
    sweep = load_sweep(finished / "sweep-file.yaml", (f"storage={finished}", "name=other", "baselines=[copy-input]"))
    run_sweep(sweep, InlineExecutor(), Quiet())
    page = finished / "tiny" / "report" / "index.html"
    before = page.read_bytes()
    for name in ("results.parquet", "scores.parquet", "sweep.yaml", "manifest.json"):
        kept = (finished / "tiny" / name).read_bytes()
        shutil.copy(finished / "other" / name, finished / "tiny" / name)
        said = rf"tiny/{name}: has changed since it was written: .*`simtune run` writes it again"
        with pytest.raises(RunError, match=said):
            report_run(finished / "tiny")
        assert page.read_bytes() == before
        (finished / "tiny" / name).write_bytes(kept)
    report_run(finished / "tiny")
    assert page.read_bytes() == before


def test_a_damaged_record_beside_a_result_is_a_warning_and_empty_cells(finished: Path) -> None:
    directory = trial(finished, "random")
    path = only_score(directory) / "costs.json"
    costs = read_record(path, Costs)
    table = (finished / "tiny" / "results.parquet").read_bytes()
    for bad in (b"[]", b'{"train_s": "long"}', b"\xff", b""):
        path.write_bytes(bad)
        again, (warning,) = run_again(finished)
        assert again.num_run == 0
        assert warning.startswith(f"{path}: damaged")
        assert "remove it" in warning
        cells = read_table(finished / "tiny" / "costs.parquet").to_pylist()
        (row,) = [row for row in cells if row["trial"] == directory.name]
        assert {name for name, value in row.items() if value is not None} == {"trial", "score", "suite", "kind"}
    # A wrong type with a right checksum, and an unknown version.
    for change in ({"train_s": "long"}, {"workers": 2**70}, {"version": 9}, {"unknown": 1}):
        path.write_bytes(checksummed_json(json_text({**costs.model_dump(), **change})))
        again, (warning,) = run_again(finished)
        assert again.num_run == 0
        assert f"costs.json, {next(iter(change))}: " in warning
    assert (finished / "tiny" / "results.parquet").read_bytes() == table


def test_a_damaged_failure_or_attempt_is_reported_and_the_trial_is_run_again(finished: Path) -> None:
    directory = trial(finished, "random")
    score = only_score(directory)
    result = (score / "metrics.json").read_bytes()
    (score / "metrics.json").unlink()
    (directory / "failure.json").write_text('{"class": "ValueError", "message": 7}')
    record_attempt(directory, RuntimeError("one"))
    (directory / "attempts" / "1.json").write_text('{"attempt": "1"}')
    assert {Path(finding.path).name for finding in diagnose(finished / "tiny", Quiet()).findings} == {
        *("failure.json", "1.json", "metrics.json")
    }
    status = {each.trial: each for each in run_status(finished / "tiny").trials}[directory.name]
    assert (status.status, "failure.json: damaged" in status.error) == ("missing", True)
    again, (warning,) = run_again(finished)
    assert (again.num_run, again.num_failed) == (1, 0)
    assert "failure.json: damaged" in warning
    assert "(1 more; `simtune doctor` lists them)" in warning
    assert (score / "metrics.json").read_bytes() == result
    assert read_record(score / "costs.json", Costs).failed_attempts == 1


def test_attempts_are_numbered_by_what_is_there(tmp_path: Path) -> None:
    directory = tmp_path / "0123456789abcdef"
    for _ in range(3):
        record_attempt(directory, RuntimeError("no"))
    folder = directory / "attempts"
    (folder / "1.json").unlink()
    (folder / "3.json").unlink()
    (folder / "notes.txt").touch()
    (folder / "7.json").mkdir()
    # The third's log is kept too.
    assert record_attempt(directory, RuntimeError("again")).attempt == 8
    assert [record.attempt for record in attempts_of(directory)] == [2, 8]
    assert "RuntimeError: no" in (folder / "3.log").read_text()
    # Numbers that are too large are skipped, so that every new attempt can be read.
    (folder / "999999999.json").write_text("{}")
    assert [record_attempt(directory, RuntimeError("again")).attempt for _ in range(2)] == [9, 10]
    assert [record.attempt for record in attempts_of(directory)] == [2, 8, 9, 10]


def test_the_first_failure_of_a_record_names_its_field(tmp_path: Path) -> None:
    good = Failure(
        trial="0", cause="input", error="E", message="m", step=None, retry=True, attempts=1, host="h", log="a.log"
    )
    write_record(tmp_path / "f.json", good)
    assert read_record(tmp_path / "f.json", Failure) == good
    with pytest.raises(RunError, match=r"f\.json, attempt: Field required"):
        read_record(tmp_path / "f.json", Attempt)
