"""Real Ray processes killed in the middle of a training: the same results, few repeated steps, no process left."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from json_files import read_json
from ray_drivers import NUM_STEPS, Driver, check_results, checkpoints_below, fault_fields, written

from simtune.trial.failures import Attempt, attempts_of

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.fault]

RAY_IS_LOST = 75
"""Exit code of a driver whose Ray has ended, which a supervisor starts again."""


@pytest.fixture
def fields(tmp_path: Path, embedding_cache: Path) -> dict[str, Any]:
    return fault_fields(tmp_path / "runs", embedding_cache)


@dataclass
class Continued:
    """Four drivers of one sweep of five trials, one after the other.

    Two are killed, the third loses its GCS, and the last continues, while some of its processes are killed.

    Attributes:
        driver: the last.
        code: its exit code.
        lost: finished trials whose results were lost or written again after a driver was killed.
        left: processes of the drivers that were killed which were still there when the last had ended.
        finished: by the drivers before the last, and when.
        begun: by them and not finished, with the steps of their checkpoints.
        attempts: recorded when the last started.
        hit: by trial, the process that the last driver lost, the newest checkpoint then, and the steps seen until then.
    """

    driver: Driver
    finished: dict[str, int]
    begun: dict[str, set[int]]
    attempts: dict[str, Sequence[Attempt]]
    lost: set[str]
    hit: dict[str, tuple[str, int, set[int]]] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    code: int = -1

    @property
    def storage(self) -> Path:
        return self.driver.storage


def kill_drivers(fields: dict[str, Any]) -> tuple[set[str], list[psutil.Process]]:
    """Starts two drivers and kills each alone, one while it starts and one while it trains, at a random moment.

    Returns:
        Trials that were finished before a kill and lost or written again after it, and what the drivers had started.
    """
    chance, before, lost = random.Random(1), dict[str, int](), set[str]()
    orphans: list[psutil.Process] = []
    for trains in (False, True):
        with Driver(fields) as driver:
            if trains:
                driver.in_the_middle_of_a_trial()
            else:
                driver.waits_for("tiny/manifest.json")
            time.sleep(chance.uniform(0.0, 3.0))
            orphans += driver.dies_alone()
        now = written(driver.storage)
        lost |= {trial for trial, at in before.items() if now.get(trial) != at}
        before = now
    return lost, orphans


@pytest.fixture(scope="module")
def continued(tmp_path_factory: pytest.TempPathFactory, embedding_cache: Path) -> Continued:
    fields = fault_fields(tmp_path_factory.mktemp("continued") / "runs", embedding_cache)
    # Workers continue without a head: more trials than they can train before the driver ends.
    fields["selection"]["seeds"] = [0, 1, 2, 3, 4]
    lost, orphans = kill_drivers(fields)
    killed_at = time.monotonic()
    begun, finished = begun_and_finished(fields)
    with Driver(fields) as third:
        third.in_the_middle_of_a_trial(but=finished, begun=begun)
        third.kill("gcs_server")
        assert third.ends(within_s=60) == RAY_IS_LOST, third.log.read_text()
        third.nothing_is_left(within_s=30)
        third.said_how_to_continue()
    lost |= {trial for trial, at in finished.items() if written(third.storage).get(trial) != at}
    begun, finished = begun_and_finished(fields)
    attempts = {path.name: attempts_of(path) for path in (third.storage / "trials").iterdir()}
    state = [path for path in (third.storage / "tiny/.ray").rglob("*") if path.is_file()]
    assert state
    for path in state:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (third.storage / "tiny/.ray/tune/experiment_state-2100-01-01_00-00-00.json").write_text('{"trial_data": [')
    with Driver(fields) as driver:
        found = Continued(driver, finished, begun, attempts, lost)
        for title in ("RayTrainWorker", "TrainController", "ResourceTrainable"):
            trial, step = driver.in_the_middle_of_a_trial(but={*found.hit, *finished}, begun=begun)
            driver.kill(title)
            found.hit[trial] = (title, step, driver.steps_seen.get(trial, set()) | {step})
            driver.steps_seen[trial] = set()
        found.code = driver.ends()
        driver.nothing_is_left(within_s=60)
    _, alive = psutil.wait_procs(orphans, timeout=max(0.0, killed_at + 30 - time.monotonic()))
    found.left = [process.name() for process in alive]
    return found


def begun_and_finished(fields: dict[str, Any]) -> tuple[dict[str, set[int]], dict[str, int]]:
    """The steps of the checkpoints of trials that are begun, and when each finished one was written."""
    finished = written(Path(fields["storage"]))
    begun = checkpoints_below(Path(fields["storage"]))
    return {trial: steps for trial, steps in begun.items() if trial not in finished}, finished


def test_killed_drivers_on_ray_lose_nothing_and_leave_no_process(continued: Continued) -> None:
    assert continued.lost == set()
    assert continued.left == []
    assert continued.code == 0, continued.driver.log.read_text()
    check_results(continued.driver.fields, num_trials=5)


def test_a_driver_without_its_gcs_ends_soon_and_the_next_continues_whatever_ray_left(continued: Continued) -> None:
    assert len(continued.finished) < 5
    assert continued.code == 0, continued.driver.log.read_text()
    assert not (continued.storage / "tiny/.ray").exists()
    assert continued.finished.items() <= written(continued.storage).items()
    for trial, steps in continued.begun.items():
        seen = continued.hit[trial][2] if trial in continued.hit else continued.driver.steps_seen[trial]
        # A driver killed between two checkpoints leaves both. Workers without a head may have come close to the end.
        assert all(step > max(steps) for step in seen - steps)
        assert seen - steps or max(steps) > NUM_STEPS - 20
    check_results(continued.driver.fields, num_trials=5)


def test_a_killed_worker_controller_and_trial_actor_change_no_result_and_cost_few_steps(continued: Continued) -> None:
    assert continued.code == 0, continued.driver.log.read_text()
    assert len(continued.hit) == 3
    for name, (title, step, _) in continued.hit.items():
        # It continued from its last checkpoint: no earlier step was repeated. The one before may not be removed yet.
        assert min(continued.driver.steps_seen[name]) >= step - 1, title
        trial = continued.storage / "trials" / name
        before = len(continued.attempts.get(name, ()))
        assert [record.cause for record in attempts_of(trial)[before:]] == ["infrastructure"], title
        (costs,) = trial.glob("scores/*/costs.json")
        assert read_json(costs)["failed_attempts"] == before + 1
    check_results(continued.driver.fields, num_trials=5)


@pytest.mark.parametrize(
    ("title", "number", "trains"),
    [("raylet", signal.SIGKILL, True), ("gcs_server", signal.SIGSTOP, True), ("raylet", signal.SIGSTOP, False)],
)
def test_a_raylet_or_head_that_dies_or_stops_ends_a_driver_with_the_next_command_and_no_process(
    fields: dict[str, Any], title: str, number: signal.Signals, trains: bool
) -> None:
    fields["selection"]["seeds"] = [0, 1, 2, 3]
    silent = {"TEST_SILENT_S": "8"} if number == signal.SIGSTOP else {}
    with Driver(fields, environment={**os.environ, **silent}) as driver:
        driver.begins_a_trial(trains)
        driver.kill(title, number)
        assert driver.ends(within_s=120) == RAY_IS_LOST, driver.log.read_text()
        driver.nothing_is_left(within_s=30)
        driver.said_how_to_continue()


@pytest.mark.parametrize(
    ("sent", "times", "code", "trains"), [(signal.SIGINT, 3, 130, True), (signal.SIGHUP, 1, 129, False)]
)
def test_a_signal_ends_a_driver_on_ray_with_its_code_the_next_command_and_no_process(
    fields: dict[str, Any], sent: signal.Signals, times: int, code: int, trains: bool
) -> None:
    with Driver(fields) as driver:
        driver.begins_a_trial(trains)
        for _ in range(times):
            # As a terminal does: to all processes of the group.
            os.killpg(driver.process.pid, sent)
            time.sleep(0.005)
        assert driver.ends(within_s=60) == code, driver.log.read_text()
        driver.nothing_is_left(within_s=60)
        said = " ".join(driver.log.read_text().split())
        assert f"run `simtune {' '.join(driver.arguments)}` to continue" in said
        assert json.loads((driver.storage / "tiny/.lease").read_text())["token"] == ""
