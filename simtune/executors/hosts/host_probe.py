"""What a host says of itself: what is installed, what devices and space it has, and whether a run could work there.

`report_host` is sent to hosts as code, because another simtune may be installed there, or none. So nothing of simtune
but `code_commit`, which is sent too, is imported here until the host's simtune has turned out to be the driver's; a
report consists of plain values.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from simtune.code_commit import code_commit

PACKAGES = ("ray", "torch", "deepspeed", "transformers")
"""The packages that must have the same version on every host, beside simtune and Python."""

_COMMAND_LIMIT_S = 40.0
# Of all devices: Ray hides them from a task that asks for none. Counting takes no memory of a GPU.
_COUNT_DEVICES = """
import json, warnings
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    import torch
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
reason = str(said[-1].message) if said else f"torch {torch.__version__} is for CUDA {torch.version.cuda}"
print(json.dumps({"devices": devices, "reason": "" if devices else reason}))
"""


def report_host(request: dict[str, Any]) -> dict[str, Any]:
    """Looks at this host.

    Args:
        request: `code`, the fingerprint of the driver's simtune, or empty in the driver; `needs`, what a run needs, as
            `simtune.executors.hosts.host_checks.check_host` takes it; `num_gpus` that Ray offers here.

    Returns:
        The fields of `simtune.executors.hosts.host_reports.HostFacts`.
    """
    package = importlib.util.find_spec("simtune")
    folder = Path(package.origin).parent if package and package.origin else None
    code = _fingerprint(folder) if folder else ""
    report = {
        "host": socket.gethostname(),
        "versions": _versions(),
        "code": code,
        "commit": code_commit(folder) if folder else "",
        "cuda_driver": _cuda_driver(),
        "cuda": _cuda_devices() if request["num_gpus"] else None,
        "gpu_bytes": _smallest_gpu() if request["num_gpus"] else None,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "disk_bytes": shutil.disk_usage(tempfile.gettempdir()).free,
        "shm_bytes": shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else None,  # noqa: S108
        "found": {},
        "problems": {},
    }
    if code and code == (request["code"] or code):
        from simtune.executors.hosts.host_checks import check_host

        report["found"], report["problems"] = check_host(**request["needs"])
    return report


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("simtune", *PACKAGES):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = ""
    return found


def _fingerprint(folder: Path) -> str:
    """SHA-256 (hex) of the code and the settings of a package, with their paths within it."""
    digest = hashlib.sha256()
    for path in sorted(path for ending in ("py", "yaml") for path in folder.rglob(f"*.{ending}")):
        digest.update(f"{path.relative_to(folder).as_posix()}\n{path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _cuda_driver() -> str:
    """The version of NVIDIA's driver; empty without one."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        return ""
    found = re.search(r"Kernel Module\D*?(?:x86_64|aarch64)?\s+(\d+(?:\.\d+)+)", text)
    return found[1] if found else ""


def _cuda_devices() -> dict[str, Any]:
    """How many `devices` torch sees on this host, and the `reason` if it sees none."""
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    answer = _output([sys.executable, "-c", _COUNT_DEVICES], environment)
    try:
        return dict(json.loads(answer.splitlines()[-1]))
    except (IndexError, ValueError):
        return {"devices": 0, "reason": "torch cannot be imported there, or does not return"}


def _smallest_gpu() -> int | None:
    """Memory of the smallest GPU; None if NVIDIA's tool does not say."""
    said = _output(["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"])
    sizes = [int(line) for line in said.splitlines() if line.strip().isdecimal()]
    return min(sizes) << 20 if sizes else None


def _output(command: list[str], environment: dict[str, str] | None = None) -> str:
    """What a command prints; empty if it fails."""
    try:
        done = subprocess.run(  # noqa: S603
            command, env=environment, capture_output=True, text=True, check=True, timeout=_COMMAND_LIMIT_S
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
