"""Two sweeps on one cluster of two CPUs: each gets one, neither trains what the other does, and one may be killed."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ray_drivers import Driver, fault_fields, results_below
from test_ray_cluster import cluster

from simtune.threads import VARIABLES

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.fault]


@dataclass
class Claims:
    """Which runs claim trials that have no result yet, looked at again and again.

    Attributes:
        now: the runs by trial.
        ever: for each trial, all runs that have claimed it, in their order.
    """

    trials: Path
    now: dict[str, str] = field(default_factory=dict)
    ever: dict[str, list[str]] = field(default_factory=dict)

    def look(self) -> None:
        found = {}
        for path in self.trials.glob("*/.claim"):
            with suppress(OSError, ValueError, KeyError):
                run = json.loads(path.read_text())["run"]
                if not list(path.parent.glob("scores/*/metrics.json")):
                    found[path.parent.name] = run
        for trial, run in found.items():
            runs = self.ever.setdefault(trial, [])
            if runs[-1:] != [run]:
                runs.append(run)
        self.now = found

    def wait_until(self, seen: Callable[[list[str]], bool], *drivers: Driver) -> None:
        """Waits for runs that claim a trial each at the same time."""
        while not seen(sorted(self.now.values())):
            assert all(driver.process.poll() is None for driver in drivers), drivers[0].log.read_text()
            time.sleep(0.02)


@contextmanager
def watched(trials: Path) -> Iterator[Claims]:
    claims, over = Claims(trials), threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            claims.look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield claims
    finally:
        over.set()
        thread.join()


def sweep_of(fields: dict[str, Any], name: str, seeds: Iterable[int]) -> dict[str, Any]:
    selection = {**fields["selection"], "seeds": [*seeds]}
    return {**fields, "name": name, "selection": selection, "resources": {"cpus_per_worker": 1}}


def test_a_second_sweep_gets_its_share_within_a_trial_and_all_of_it_when_the_first_is_killed(
    tmp_path: Path, embedding_cache: Path
) -> None:
    fields = fault_fields(tmp_path / "runs", embedding_cache)
    # A trial takes longer than one of Tune's actors takes to start: an actor that becomes free meanwhile gets the trial
    # for which the new one starts, and that one is given up.
    fields["training"]["epochs"] = 18
    # More than the first one can train before it is killed; the second begins with what the first has begun, and has
    # enough of its own, however late it starts and its second trial gets workers.
    first, second = sweep_of(fields, "first", range(120)), sweep_of(fields, "second", [*range(2), *range(200, 209)])
    some_more = sweep_of(fields, "first", range(100, 102))
    storage = Path(fields["storage"])
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as files, watched(storage / "trials") as claims:
        environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        environment["RAY_TMPDIR"] = files
        with cluster(tmp_path / "cluster.log", tmp_path, environment) as (address, tell):
            environment["RAY_ADDRESS"] = address
            with Driver(first, "cluster", environment, alone=False) as a:
                claims.wait_until(lambda runs: runs == ["first", "first"], a)
                with Driver(second, "cluster", environment, alone=False) as b:
                    claims.wait_until(lambda runs: runs == ["first", "second"], a, b)
                    # Trials of the first have ended, none was stopped.
                    assert len(results_below(storage)) >= 1
                    # The registry ends with the first driver, which has started it.
                    a.dies_alone()
                    # Its claim on what it was training stays.
                    claims.wait_until(lambda runs: runs.count("second") == 2, b)
                    with Driver(some_more, "cluster", environment, alone=False) as again:
                        assert again.ends() == 0, again.log.read_text()
                    assert b.ends() == 0, b.log.read_text()
            # Nothing of either sweep is left.
            assert tell("free 2") == "2.0"
    assert len(results_below(storage)) >= 11 + 2
    # Each trial was trained by one driver; only what the first was training when it was killed may have changed hands.
    assert sorted(map(len, claims.ever.values()))[:-1] == [1] * (len(claims.ever) - 1), claims.ever
    assert {runs[0] for runs in claims.ever.values()} == {"first", "second"}
