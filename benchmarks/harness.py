"""What the benchmarks share: interleaved runs, medians, peaks of memory, the machine, a table and a JSON file."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
RUNS = 5


def machine(*packages: str) -> dict[str, Any]:
    """Processor, cores, memory, and the versions of Python and of packages."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(memory_gib),
        "versions": versions,
    }


def interleaved(works: Mapping[str, Callable[[], float | None]], runs: int = RUNS) -> dict[str, list[float]]:
    """Seconds of each work in turn, `runs` times: A B A B ..., so that a drifting machine drifts for all.

    A work that returns a number has timed itself.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(runs):
        for name, work in works.items():
            started = time.perf_counter()
            own = work()
            seconds[name].append(time.perf_counter() - started if own is None else own)
    return seconds


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def in_own_process(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """What a function returns in a new process, and that process's peak of memory in MiB."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"{function.__name__} ended with exit code {process.exitcode}") from None
    process.join()
    return answer


def _send(sender: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    result = function(*arguments)
    sender.send((result, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
    sender.close()


def show(title: str, rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> None:
    """Prints the machine and a table whose columns are the rows' keys."""
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    print(f"{title}\n{about['processor']}, {about['cores']} cores, {about['memory_gib']} GiB; {versions}")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(column), *(len(line[i]) for line in cells)) for i, column in enumerate(columns)]
    print("  ".join(column.rjust(width) for column, width in zip(columns, widths, strict=True)))
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def save(name: str, rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any], **more: Any) -> None:
    """Writes `results/NAME.json`: the table's rows with the machine they were measured on."""
    RESULTS.mkdir(exist_ok=True)
    rounded = [
        {key: float(f"{value:.5g}") if isinstance(value, float) else value for key, value in row.items()}
        for row in rows
    ]
    text = json.dumps({"machine": about, "rows": rounded, **more}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
