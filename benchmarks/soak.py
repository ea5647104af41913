"""Drivers killed at random moments, and a long sweep in one driver: what must hold when a run takes days.

    python benchmarks/soak.py --kills 200         a driver killed with SIGKILL 200 times; some 40 minutes on two cores
    python benchmarks/soak.py --trials 500        500 tiny trials in one driver; some 20 minutes on two cores

`--kills`: a sweep of tiny trials is started again and again, and killed after a random time, until it has been killed
so often and is done (a sweep that ends earlier is followed by another). Checked after each kill: the number of finished
trials never falls, and no finished trial's files change; at the end: the tables are those of an undisturbed run,
to the byte, and no process of a killed driver is left. Seeds of the moments are printed, so that a failure can be had
again.

`--trials`: memory of the driver and of all its processes, sampled over the sweep; what is left when it has ended.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml
from forked import ForkedDriver, wait_for_imports
from harness import machine, median, save, show

LONGEST_END_S = 150.0
SHARED_MEMORY = "/dev/shm"  # noqa: S108 counted, not written
TABLES = ("results.parquet", "scores.parquet", "subsets.parquet", "results.csv", "results.md")
SWEEP: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("soak.yaml").read_text(encoding="utf-8"))


def write_sweep(storage: Path, seeds: int) -> Path:
    storage.mkdir(parents=True, exist_ok=True)
    path = storage / "sweep.yaml"
    selection = {**SWEEP["selection"], "seeds": list(range(seeds))}
    path.write_text(yaml.safe_dump({**SWEEP, "selection": selection, "storage": str(storage)}, sort_keys=False))
    return path


def words(sweep: Path, executor: str) -> list[str]:
    return ["run", str(sweep), "--executor", executor, "--json"]


def start(sweep: Path, executor: str) -> subprocess.Popen[bytes]:
    with (sweep.parent / "driver.log").open("ab") as log:
        command = [sys.executable, "-m", "simtune.cli", *words(sweep, executor)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)


def fork(sweep: Path, executor: str) -> ForkedDriver:
    return ForkedDriver(words(sweep, executor), Path(os.devnull), sweep.parent / "driver.log")


def finished(storage: Path) -> dict[str, int]:
    """Finished trials, and when each one's result was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in (storage / "trials").glob("*/scores/*/metrics.json")}


def tables(storage: Path) -> dict[str, bytes]:
    return {name: (storage / "soak" / name).read_bytes() for name in TABLES}


def kill_loop(
    root: Path, kills: int, seeds: int, executor: str, seed: int, cache: Path | None = None
) -> dict[str, Any]:
    """Kills drivers until there were `kills` and each sweep is done; raises where a promise is broken.

    Args:
        cache: embeddings to start from, so that drivers come to their trials.
    """
    chance = random.Random(seed)
    undisturbed = storage_at(root / "undisturbed", cache)
    wait_for_imports()
    started = time.monotonic()
    driver = fork(write_sweep(undisturbed, seeds), executor)
    if driver.wait() != 0:
        raise RuntimeError((undisturbed / "driver.log").read_text()[-2000:])
    longest_s = time.monotonic() - started
    expected = tables(undisturbed)
    done = sweeps = 0
    killed: list[Killed] = []
    while len(killed) < kills:
        storage = storage_at(root / f"killed-{sweeps}", cache)
        sweep, before, drivers = write_sweep(storage, seeds), dict[str, int](), 0
        while True:
            drivers, since = drivers + 1, time.monotonic()
            driver = fork(sweep, executor)
            try:
                # Mostly before its end, now and then after it.
                code = driver.wait(timeout=chance.uniform(0.0, longest_s) if len(killed) < kills else None)
            except subprocess.TimeoutExpired:
                killed.append(kill(driver))
                code = None
            now = finished(storage)
            if not before.items() <= now.items():
                raise AssertionError(
                    f"seed {seed}: finished trials were lost or written again after kill {len(killed)}"
                )
            before = now
            if code == 0 and drivers == 1:
                # The machine may have been busier at first: then most drivers would end before they are killed.
                longest_s = time.monotonic() - since
            if code == 0:
                break
            if code is not None:
                raise RuntimeError((storage / "driver.log").read_text()[-2000:])
        if tables(storage) != expected:
            raise AssertionError(f"seed {seed}: the tables of {storage} differ from those of an undisturbed run")
        sweeps += 1
        done += len(before)
    for each in killed:
        each.check_nothing_is_left()
    return {
        "kills": len(killed),
        "sweeps": sweeps,
        "finished_trials": done,
        "undisturbed_s": longest_s,
        "seconds": time.monotonic() - started,
    }


def storage_at(path: Path, cache: Path | None) -> Path:
    path.mkdir(parents=True)
    if cache is not None:
        (path / "cache").mkdir()
        (path / "cache" / "embeddings").symlink_to(cache)
    return path


@dataclass
class Killed:
    """A driver that was killed alone, and what it had started, which must notice by itself."""

    children: list[psutil.Process]
    at: float = field(default_factory=time.monotonic)

    def check_nothing_is_left(self) -> None:
        """Ray's two agents take somewhat over a minute; meanwhile the next driver runs."""
        _, alive = psutil.wait_procs(self.children, timeout=max(0.0, self.at + LONGEST_END_S - time.monotonic()))
        if alive:
            raise AssertionError(f"processes outlived their driver: {[process.name() for process in alive]}")


def kill(driver: ForkedDriver) -> Killed:
    try:
        children = psutil.Process(driver.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    driver.kill()
    driver.wait()
    return Killed(children)


def long_sweep(root: Path, trials: int) -> list[dict[str, Any]]:
    """Memory over a sweep of that many trials in one driver, and what it leaves behind."""
    storage = storage_at(root / "long", None)
    shared_before, temporary_before = count(SHARED_MEMORY), count(tempfile.gettempdir())
    driver = start(write_sweep(storage, trials // 2), "local")
    process = psutil.Process(driver.pid)
    samples: list[tuple[int, float, float, int]] = []
    while driver.poll() is None:
        time.sleep(2)
        try:
            children = process.children(recursive=True)
            own = process.memory_info().rss / 2**20
            workers = [child for child in children if "RayTrainWorker" in " ".join(child.cmdline())]
            most = max((worker.memory_info().rss for worker in workers), default=0) / 2**20
            samples.append((len(finished(storage)), own, most, len(children)))
        except psutil.Error:
            continue
    if driver.returncode:
        raise RuntimeError((storage / "driver.log").read_text()[-2000:])
    rows = []
    under_way = [sample for sample in samples if sample[2]]
    for low, high in ((0.1, 0.3), (0.4, 0.6), (0.8, 1.0)):
        part = [s for s in under_way if low * trials <= s[0] <= high * trials]
        rows.append(
            {
                "trials_done": f"{low * trials:.0f} to {high * trials:.0f}",
                "driver_mib": median([own for _, own, _, _ in part]),
                "largest_worker_mib": median([most for _, _, most, _ in part]),
                "processes": median([number for _, _, _, number in part]),
            }
        )
    time.sleep(5)
    rows.append(
        {
            "trials_done": "after the end, more than before",
            "processes": sum(
                1 for child in psutil.process_iter(["cmdline"]) if str(storage) in str(child.info["cmdline"])
            ),
            "shared_memory_files": count(SHARED_MEMORY) - shared_before,
            "temporary_files": count(tempfile.gettempdir()) - temporary_before,
        }
    )
    return rows


def count(folder: str) -> int:
    return sum(1 for _ in Path(folder).iterdir()) if Path(folder).is_dir() else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int)
    parser.add_argument("--trials", type=int)
    parser.add_argument("--executor", default="inline", choices=["inline", "local"])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not arguments.kills and not arguments.trials:
        parser.error("give --kills N or --trials N")
    about = machine("ray", "torch", "deepspeed")
    with tempfile.TemporaryDirectory() as folder:
        if arguments.kills:
            found = kill_loop(Path(folder), arguments.kills, 6, arguments.executor, arguments.seed)
            row = {"executor": arguments.executor, "seed": arguments.seed, **found, "same_tables": True}
            show("Drivers killed", [row], about)
            save("kills", [row], about)
        if arguments.trials:
            rows = long_sweep(Path(folder), arguments.trials)
            show(f"{arguments.trials} trials in one driver", rows, about)
            save("soak", rows, about)


if __name__ == "__main__":
    main()
