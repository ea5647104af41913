"""From the reports of a cluster's hosts to what is wrong with each; plain values, without Ray."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from simtune.executors.hosts.host_checks import STORAGE
from simtune.executors.hosts.host_probe import PACKAGES
from simtune.outside_files import GIB
from simtune.storage.folder_content import differing_files
from simtune.wording import counted

_EQUAL = ("python", *PACKAGES)
# Less is worth a warning: Ray stops using a disk that is nearly full, and GPUs of a trial exchange data in /dev/shm.
_LEAST_DISK_BYTES, _LEAST_SHM_BYTES = 2 * GIB, GIB
_MOST_HOSTS_NAMED = 8
_NOT_SEEN = (
    "storage: the driver does not see the files that this host writes there. Mount one shared folder under this path "
    "on every host, or give --storage s3://BUCKET/KEY"
)


@dataclass(frozen=True)
class HostFacts:
    """What a host says of itself.

    Attributes:
        host: its name.
        versions: of Python, simtune and the packages of `PACKAGES`; empty where one is not installed.
        code: SHA-256 of the installed simtune; empty without one.
        commit: its git commit, and whether it was changed; empty if unknown.
        cuda_driver: the version of NVIDIA's driver; empty without one.
        cuda: how many `devices` torch sees, and the `reason` if none; None if Ray offers no GPU there.
        gpu_bytes: memory of its smallest GPU; None if that is not known.
        memory_bytes: of the host.
        disk_bytes: free in its folder of temporary files.
        shm_bytes: size of /dev/shm; None without one.
        found: what tells the files of encoders and models from others, by what is checked and its name.
        problems: what does not work there, by what is checked and its name.
    """

    host: str
    versions: Mapping[str, str]
    code: str
    commit: str
    cuda_driver: str
    cuda: Mapping[str, Any] | None
    memory_bytes: int
    disk_bytes: int
    shm_bytes: int | None
    gpu_bytes: int | None = None
    found: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    problems: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def simtune(self) -> str:
        """The installed simtune, in words."""
        if not self.code:
            return "no simtune"
        name, *changes = self.commit.partition(" ")
        commit = f", commit {name[:12]}{''.join(changes)}" if name else ""
        return f"simtune {self.versions['simtune'] or 'of unknown version'} (code {self.code[:8]}{commit})"

    def packages(self, names: Iterable[str] = _EQUAL) -> str:
        """The versions of packages, in words."""
        return ", ".join(f"{name} {self.versions[name]}" if self.versions[name] else f"no {name}" for name in names)

    def unlike(self, other: HostFacts) -> list[str]:
        """The packages, and Python, whose versions make a difference between two hosts."""
        return [name for name in _EQUAL if _release(self, name) != _release(other, name)]

    def files_unlike(self, other: HostFacts, subject: str, name: str) -> list[str]:
        """The files of an encoder or model that differ between two hosts; of one on a hub, each may lack some."""
        ours, theirs = (facts.found.get(subject, {}).get(name) for facts in (self, other))
        if subject == STORAGE or not ours or not theirs:
            return []
        return differing_files(ours, theirs, may_be_partial=not Path(name).is_absolute())

    @property
    def problem_texts(self) -> tuple[str, ...]:
        """What does not work there, in the order of the checks."""
        return tuple(text for of_subject in self.problems.values() for text in of_subject.values())


@dataclass(frozen=True)
class HostReport:
    """A host of the cluster.

    Attributes:
        id: of Ray.
        name: what messages call it; no other host has the same.
        num_cpus: that Ray offers there.
        num_gpus: that Ray offers there.
        facts: what it says of itself; None if it did not answer.
        silence: why it did not answer.
        has_left: whether it left the cluster instead.
    """

    id: str
    name: str
    num_cpus: int
    num_gpus: float
    facts: HostFacts | None
    silence: str = ""
    has_left: bool = False


@dataclass(frozen=True)
class HostProblem:
    """What is wrong with a host, and what to do about it."""

    host: str
    text: str


@dataclass(frozen=True)
class Preflight:
    """The hosts of a cluster, compared with the driver.

    Attributes:
        driver: what the driver says of itself.
        reports: of the hosts.
        problems: for which nothing is started.
        warnings: what may go wrong, a line each.
    """

    driver: HostFacts
    reports: tuple[HostReport, ...]
    problems: tuple[HostProblem, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare_hosts(driver: HostFacts, reports: Sequence[HostReport], seen: Collection[str] | None = None) -> Preflight:
    """Finds what would make trials fail on a host, or give other results there.

    Args:
        driver: the facts that those of hosts are compared with.
        reports: of the hosts.
        seen: ids of the hosts whose files in the storage the driver sees; None if no storage was tried.
    """
    problems = [HostProblem(f"{driver.host} (driver)", text) for text in driver.problem_texts]
    warnings: list[HostProblem] = []
    for report in reports:
        if report.facts is None:
            # The others can do the work without it.
            (warnings if report.has_left else problems).append(HostProblem(report.name, report.silence))
            continue
        problems += [HostProblem(report.name, text) for text in _problems(driver, report, report.facts)]
        if seen is not None and STORAGE in report.facts.found and report.id not in seen:
            problems.append(HostProblem(report.name, _NOT_SEEN))
        warnings += [HostProblem(report.name, text) for text in _warnings(driver, report, report.facts)]
    lines = [*problem_lines(warnings), *_different_drivers(reports)]
    return Preflight(driver, tuple(reports), tuple(problems), tuple(lines))


def problem_lines(problems: Iterable[HostProblem]) -> list[str]:
    """One line for each different problem, with the hosts that have it."""
    hosts: dict[str, list[str]] = {}
    for problem in problems:
        hosts.setdefault(problem.text, []).append(problem.host)
    return [f"{_named(list(dict.fromkeys(names)))}: {text}" for text, names in hosts.items()]


def _named(names: Sequence[str]) -> str:
    more = len(names) - _MOST_HOSTS_NAMED
    shown = ", ".join(names[:_MOST_HOSTS_NAMED]) + (f" and {more} more" if more > 0 else "")
    return f"host{'s' if names[1:] else ''} {shown}"


def _problems(driver: HostFacts, report: HostReport, facts: HostFacts) -> Iterable[str]:
    if not facts.code:
        yield "simtune is not installed there; install the driver's, for example with `simtune cluster up`"
    elif facts.code != driver.code:
        yield (
            f"a different simtune is installed there: {facts.simtune}, the driver has {driver.simtune}. Install the "
            "driver's code, for example with `simtune cluster up`, and start Ray there again"
        )
    if names := facts.unlike(driver):
        yield (
            f"has {facts.packages(names)}, the driver has {driver.packages(names)}. Install the driver's "
            "versions there and start Ray again"
        )
    if facts.cuda is not None and facts.cuda["devices"] < report.num_gpus:
        yield (
            f"Ray offers {counted(report.num_gpus, 'GPU')} there, torch sees {facts.cuda['devices']} "
            f"({facts.cuda['reason'] or 'no reason given'}). Install a matching driver and torch, or "
            "start Ray there with --num-gpus=0"
        )
    yield from facts.problem_texts
    for subject, name in ((subject, name) for subject, of_subject in facts.found.items() for name in of_subject):
        if different := facts.files_unlike(driver, subject, name):
            yield (
                f"{subject} {name}: its files there differ from the driver's, for example {different[0]}. Copy the "
                "driver's to every host"
            )


def _warnings(driver: HostFacts, report: HostReport, facts: HostFacts) -> Iterable[str]:
    if facts.disk_bytes < _LEAST_DISK_BYTES:
        yield f"only {_gib(facts.disk_bytes)} are free for temporary files; Ray stops on a full disk"
    if report.num_gpus > 1 and facts.shm_bytes is not None and facts.shm_bytes < _LEAST_SHM_BYTES:
        yield (
            f"shared memory has {_gib(facts.shm_bytes)}, too little for a trial on several GPUs; give its container "
            "more (docker run --shm-size)"
        )


def _different_drivers(reports: Iterable[HostReport]) -> Iterable[str]:
    """A warning if hosts have different NVIDIA drivers."""
    hosts: dict[str, list[str]] = {}
    for report in reports:
        if report.facts is not None and report.facts.cuda_driver:
            hosts.setdefault(report.facts.cuda_driver, []).append(report.name)
    if len(hosts) > 1:
        found = "; ".join(f"{version} on {_named(names)}" for version, names in sorted(hosts.items()))
        yield f"NVIDIA's driver differs: {found}. The last digits of a trial's results may depend on its host"


def _release(facts: HostFacts, name: str) -> str:
    """What must be equal of a version: not a build for CPUs or CUDA (`+cpu`), and of Python two numbers."""
    version = facts.versions[name]
    return ".".join(version.split(".")[:2]) if name == "python" else version.partition("+")[0]


def _gib(size: int) -> str:
    return f"{size / GIB:,.1f} GiB"
