"""The readers' fuzzing for longer than in CI: the targets of `tests/fuzz`, new inputs in every run.

    python benchmarks/fuzz.py                          60 seconds a target
    python benchmarks/fuzz.py --seconds 5 archive      some targets only
    python benchmarks/fuzz.py --engine atheris         inputs led by the coverage of simtune's code, where installed

Each target runs in a process of its own, so that a crash of a library's native code is seen as one. A failure is what
is neither a return nor an error that says what is wrong; failures are told apart by type and place.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from harness import machine, save, show

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "fuzz"), str(Path(__file__).parents[1])]
_EXAMPLES_AT_ONCE = 300
# Longer than any reader takes for inputs of a few kilobytes.
_HANG_S = 20
_MEMORY_BYTES = 8 << 30


class _Hang(BaseException):
    """An input took longer than `_HANG_S`."""


class _Log:
    """What became of the inputs of one target; written after every hundred, as a native crash leaves no time."""

    def __init__(self, name: str, path: Path) -> None:
        self._name, self._path = name, path
        self._folder = Path(tempfile.mkdtemp(prefix="simtune-fuzz-")) / "given"
        self.row: dict[str, Any] = {"target": name, "inputs": 0, "refused": 0, "slowest_s": 0.0, "failures": {}}
        signal.signal(signal.SIGALRM, self._hang)

    @staticmethod
    def _hang(number: int, frame: object) -> None:
        raise _Hang

    def take(self, given: Any) -> None:
        from fuzz_targets import attempt

        started = time.perf_counter()
        signal.alarm(_HANG_S)
        try:
            self.row["refused"] += attempt(self._name, given, self._folder) is not None
        except KeyboardInterrupt:
            raise
        # Rust's panics are no Exceptions.
        except BaseException as error:
            signal.alarm(0)
            ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "simtune" in frame.filename]
            place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
            failures = self.row["failures"]
            about = f"{type(error).__name__}: {str(error)[:200]} <- {ascii(given)[:300]}"
            failures.setdefault(f"{type(error).__name__} at {place}", {"count": 0, "first": about})["count"] += 1
        finally:
            signal.alarm(0)
        self.row["inputs"] += 1
        self.row["slowest_s"] = max(self.row["slowest_s"], time.perf_counter() - started)
        if self.row["inputs"] % 100 == 0:
            self.write()

    def write(self) -> None:
        self.row["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        self._path.write_text(json.dumps(self.row))


def run_one(name: str, seconds: float, engine: str, path: Path) -> None:
    """Tries one target in this process."""
    if engine == "atheris":
        import atheris

        # Before they are imported: libFuzzer follows the branches of these alone.
        with atheris.instrument_imports(include=["simtune", "yaml", "tarfile", "zipfile"]):
            pass
    import fuzz_runs  # noqa: F401
    from fuzz_targets import TARGETS
    from hypothesis import HealthCheck, Phase, given, seed, settings

    # A length in a damaged file must not take the machine's memory; torch maps more than it uses.
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
    log = _Log(name, path)
    ends = time.monotonic() + seconds

    def tried(value: Any) -> None:
        if time.monotonic() < ends:
            log.take(value)

    options = settings(
        max_examples=_EXAMPLES_AT_ONCE,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    inputs = TARGETS[name].inputs()
    if engine == "atheris":
        drawn = options(given(inputs)(tried)).hypothesis.fuzz_one_input
        # libFuzzer ends the process itself.
        atexit.register(log.write)
        atheris.Setup([sys.argv[0], f"-max_total_time={int(seconds)}", "-verbosity=0", "-rss_limit_mb=0"], drawn)
        atheris.Fuzz()
    while time.monotonic() < ends:
        seed(random.randrange(2**32))(options(given(inputs)(tried)))()
    log.write()


def _in_own_process(name: str, seconds: float, engine: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "row.json"
        own = ["--one", str(path), "--seconds", str(seconds), "--engine", engine]
        done = subprocess.run(
            [sys.executable, __file__, name, *own],
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, "TMPDIR": folder},
        )
        row = json.loads(path.read_text()) if path.exists() else {"target": name, "inputs": 0, "failures": {}}
    if done.returncode:
        row["failures"][f"exit code {done.returncode}"] = {"count": 1, "first": done.stderr[-1500:]}
    for failure, about in row["failures"].items():
        print(f"  {name}: {failure} ({about['count']} times): {about['first']}", flush=True)
    return {**row, "failures": len(row["failures"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=float, default=60, help="a target")
    parser.add_argument("--engine", choices=("hypothesis", "atheris"), default="hypothesis")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time")
    parser.add_argument("--save", action="store_true", help="write results/fuzz.json")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        run_one(arguments.targets[0], arguments.seconds, arguments.engine, arguments.one)
        return
    import fuzz_runs  # noqa: F401
    from fuzz_targets import TARGETS

    one = partial(_in_own_process, seconds=arguments.seconds, engine=arguments.engine)
    with ThreadPoolExecutor(arguments.jobs) as jobs:
        rows = list(jobs.map(one, arguments.targets or TARGETS))
    about = machine("hypothesis", "pyarrow", "PyYAML", "pydantic", "tokenizers", "transformers", "safetensors")
    show(f"Input from outside, {arguments.seconds:g} s a target, {arguments.engine}", rows, about)
    if arguments.save:
        save("fuzz", rows, about, seconds=arguments.seconds, engine=arguments.engine)


if __name__ == "__main__":
    main()
