"""Real Ray processes killed in the middle of a training: the same results, few repeated steps, no process left."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ray_drivers import Driver, check_results, fault_fields, written

from simtune.storage.files import read_json
from simtune.trial.failures import Attempt, attempts_of

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.fault]


@pytest.fixture
def fields(tmp_path: Path, embedding_cache: Path) -> dict[str, Any]:
    return fault_fields(tmp_path / "runs", embedding_cache)


@dataclass
class Continued:
    """Two drivers of one sweep of four trials, both hurt: the first loses its GCS, the next some of its processes.

    Attributes:
        finished: by the first, and when.
        begun: by the first and not finished, with the steps of their checkpoints.
        attempts: recorded when the first had ended.
        hit: by trial, the process that the next driver lost, the newest checkpoint then, and the steps seen until then.
        code: of the next driver.
    """

    driver: Driver
    finished: dict[str, int]
    begun: dict[str, set[int]]
    attempts: dict[str, Sequence[Attempt]]
    hit: dict[str, tuple[str, int, set[int]]] = field(default_factory=dict)
    code: int = -1

    @property
    def storage(self) -> Path:
        return self.driver.storage


@pytest.fixture(scope="module")
def continued(tmp_path_factory: pytest.TempPathFactory, embedding_cache: Path) -> Continued:
    fields = fault_fields(tmp_path_factory.mktemp("continued") / "runs", embedding_cache)
    # Workers continue without a head: more trials than they can train before the driver ends.
    fields["selection"]["seeds"] = [0, 1, 2, 3]
    with Driver(fields) as first:
        first.in_the_middle_of_a_trial()
        first.kill("gcs_server")
        assert first.ends(within_s=60) == 1, first.log.read_text()
        first.nothing_is_left(within_s=30)
        first.said_how_to_continue()
    finished = written(first.storage)
    begun = {trial: steps for trial, steps in first.checkpoints().items() if trial not in finished}
    attempts = {path.name: attempts_of(path) for path in (first.storage / "trials").iterdir()}
    state = [path for path in (first.storage / "tiny/.ray").rglob("*") if path.is_file()]
    assert state
    for path in state:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (first.storage / "tiny/.ray/tune/experiment_state-2100-01-01_00-00-00.json").write_text('{"trial_data": [')
    with Driver(fields) as driver:
        found = Continued(driver, finished, begun, attempts)
        for title in ("RayTrainWorker", "TrainController", "ResourceTrainable"):
            trial, step = driver.in_the_middle_of_a_trial(but={*found.hit, *finished}, begun=begun)
            driver.kill(title)
            found.hit[trial] = (title, step, driver.steps_seen.get(trial, set()) | {step})
            driver.steps_seen[trial] = set()
        found.code = driver.ends()
        driver.nothing_is_left(within_s=60)
    return found


def test_a_driver_without_its_gcs_ends_soon_and_the_next_continues_whatever_ray_left(continued: Continued) -> None:
    assert len(continued.finished) < 4
    assert continued.code == 0, continued.driver.log.read_text()
    assert not (continued.storage / "tiny/.ray").exists()
    assert continued.finished.items() <= written(continued.storage).items()
    for trial, steps in continued.begun.items():
        seen = continued.hit[trial][2] if trial in continued.hit else continued.driver.steps_seen[trial]
        assert min(seen) >= max(steps)
    check_results(continued.driver.fields, num_trials=4)


def test_a_killed_worker_controller_and_trial_actor_change_no_result_and_cost_few_steps(continued: Continued) -> None:
    assert continued.code == 0, continued.driver.log.read_text()
    assert len(continued.hit) == 3
    for name, (title, step, _) in continued.hit.items():
        # It continued from its last checkpoint: no step before that was repeated.
        assert min(continued.driver.steps_seen[name]) >= step, title
        trial = continued.storage / "trials" / name
        before = len(continued.attempts.get(name, ()))
        assert [record.cause for record in attempts_of(trial)[before:]] == ["infrastructure"], title
        (costs,) = trial.glob("scores/*/costs.json")
        assert read_json(costs)["failed_attempts"] == before + 1
    check_results(continued.driver.fields, num_trials=4)


@pytest.mark.parametrize(
    ("title", "number"), [("raylet", signal.SIGKILL), ("gcs_server", signal.SIGSTOP), ("raylet", signal.SIGSTOP)]
)
def test_a_raylet_or_head_that_dies_or_stops_ends_a_driver_with_the_next_command_and_no_process(
    fields: dict[str, Any], title: str, number: signal.Signals
) -> None:
    fields["selection"]["seeds"] = [0, 1, 2, 3]
    silent = {"TEST_SILENT_S": "8"} if number == signal.SIGSTOP else {}
    with Driver(fields, environment={**os.environ, **silent}) as driver:
        driver.in_the_middle_of_a_trial()
        driver.kill(title, number)
        assert driver.ends(within_s=120) == 1, driver.log.read_text()
        driver.nothing_is_left(within_s=30)
        driver.said_how_to_continue()


@pytest.mark.parametrize(("sent", "times", "code"), [(signal.SIGINT, 3, 130), (signal.SIGHUP, 1, 129)])
def test_a_signal_ends_a_driver_on_ray_with_its_code_the_next_command_and_no_process(
    fields: dict[str, Any], sent: signal.Signals, times: int, code: int
) -> None:
    with Driver(fields) as driver:
        driver.in_the_middle_of_a_trial()
        for _ in range(times):
            # As a terminal does: to all processes of the group.
            os.killpg(driver.process.pid, sent)
            time.sleep(0.005)
        assert driver.ends(within_s=60) == code, driver.log.read_text()
        driver.nothing_is_left(within_s=60)
        said = " ".join(driver.log.read_text().split())
        assert f"run `simtune {' '.join(driver.arguments)}` to continue" in said
        assert json.loads((driver.storage / "tiny/.lease").read_text())["token"] == ""
