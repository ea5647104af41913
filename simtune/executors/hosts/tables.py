"""The hosts of a cluster as a table for a terminal."""

from __future__ import annotations

from simtune.executors.hosts.host_checks import ENCODER, MODEL, STORAGE
from simtune.executors.hosts.host_reports import HostFacts, Preflight
from simtune.outside_files import GIB
from simtune.tables import TextTable
from simtune.wording import counted


def hosts_table(preflight: Preflight) -> TextTable:
    """What each host has and which checks it passed; without columns in which no host has anything."""
    driver, reports = preflight.driver, preflight.reports
    number = len(preflight.problems)
    caption = f"Versions are compared with the driver's: {driver.simtune}, {driver.packages()}."
    largest = max(reports, key=lambda report: (report.num_gpus > 0, report.num_cpus), default=None)
    if largest is not None and largest.num_cpus:
        gpu = " and 1 GPU" if largest.num_gpus >= 1 else ""
        caption += f" The largest worker that fits: {counted(largest.num_cpus, 'CPU')}{gpu}, on {largest.name}."
    table = TextTable(
        title=f"{counted(len(reports), 'host')}, {counted(number, 'problem') if number else 'ready'}", caption=caption
    )
    gpus = any(report.num_gpus for report in reports)
    checks = [STORAGE, ENCODER, MODEL]
    used = [check for check in checks if check in driver.found or check in driver.problems]
    table.add_columns("host", overflow="fold")
    table.add_number_columns("CPUs", *(("GPUs",) if gpus else ()), "GiB", "disk", "shm")
    table.add_columns(*(("NVIDIA",) if gpus else ()), "versions", *used, overflow="fold")
    for report in reports:
        numbers = [str(report.num_cpus), *([f"{report.num_gpus:g}"] if gpus else ())]
        if report.facts is None:
            state = "has left" if report.has_left else "no answer"
            table.add_row(report.name, *numbers, *(["-"] * (4 if gpus else 3)), state)
        else:
            table.add_row(report.name, *numbers, *_cells(driver, report.facts, gpus, used))
    return table


def _cells(driver: HostFacts, facts: HostFacts, gpus: bool, checks: list[str]) -> list[str]:
    sizes = (facts.memory_bytes, facts.disk_bytes, facts.shm_bytes)
    others = [facts.simtune] * (facts.code != driver.code)
    if names := facts.unlike(driver):
        others.append(facts.packages(names))
    return [
        *("-" if size is None else f"{size / GIB:,.1f}" for size in sizes),
        *([facts.cuda_driver or "-"] if gpus else ()),
        ", ".join(others) or "same",
        *(_state(driver, facts, check) for check in checks),
    ]


def _state(driver: HostFacts, facts: HostFacts, subject: str) -> str:
    """How the checks of the storage, the encoders or the models ended on a host."""
    if subject in facts.problems:
        return "no"
    outlines = facts.found.get(subject, {})
    if any(facts.files_unlike(driver, subject, name) for name in outlines):
        return "differs"
    if subject != STORAGE and "" in outlines.values():
        return "to download"
    return "yes" if outlines else "-"
