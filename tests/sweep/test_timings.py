"""What drivers record of their seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simtune.inspection.doctor import diagnose
from simtune.progress import Quiet
from simtune.sweep.timings import DriverClock, read_timings
from sweeps import run


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_driver_adds_its_seconds_to_those_of_earlier_drivers(tmp_path: Path) -> None:
    for driver in (1, 2):
        time = Clock()
        clock = DriverClock(time)
        time.now += 7
        with clock.trials(Quiet()) as display:
            for trial, length in (("a" * 16, 5.0), ("b" * 16, 9.0)):
                display.trial_started(trial, "label")
                time.now += length * driver
                display.trial_ended(trial, "done")
            display.trial_started("c" * 16, "a trial that never ends")
        time.now += 3
        clock.write(tmp_path, num_rows=2)
    first, second = read_timings(tmp_path)
    assert (first.before_s, first.after_s, first.num_rows) == (7.0, 3.0, 2)
    assert first.trials == {"a" * 16: (0.0, 5.0), "b" * 16: (5.0, 14.0)}
    assert second.trials == {"a" * 16: (0.0, 10.0), "b" * 16: (10.0, 28.0)}


def test_a_driver_without_trials_records_nothing_and_damage_is_no_error(tmp_path: Path) -> None:
    DriverClock().write(tmp_path, num_rows=0)
    assert read_timings(tmp_path) == ()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "timings.json").write_text("{")
    assert read_timings(tmp_path) == ()


def test_a_run_records_its_trials_and_one_that_finds_them_done_changes_nothing(tiny_sweep: dict[str, Any]) -> None:
    outcome = run(tiny_sweep, "selection.sizes=[2]", "selection.strategies=[random]")
    directory = Path(str(outcome.run_directory))
    (timings,) = read_timings(directory)
    by_arm = {row["arm"]: row["trial"] for row in outcome.results.to_pylist()}
    # Baselines that copy are the driver's own work.
    assert set(timings.trials) == {by_arm["untuned"], by_arm["random"]}
    spans = sorted(timings.trials.values())
    assert all(started < ended for started, ended in spans)
    assert spans[0][1] <= spans[1][0]
    assert timings.before_s > 0
    assert timings.after_s > 0
    assert timings.num_rows == len(outcome.results)
    before = (directory / "timings.json").read_bytes()
    run(tiny_sweep, "selection.sizes=[2]", "selection.strategies=[random]")
    assert (directory / "timings.json").read_bytes() == before
    assert diagnose(directory, Quiet()).findings == ()
    (directory / "timings.json").write_bytes(before.replace(b"before_s", b"before_t"))
    assert [Path(finding.path).name for finding in diagnose(directory, Quiet()).findings] == ["timings.json"]
