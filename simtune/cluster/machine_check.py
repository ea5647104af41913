"""Checks that a machine's Python, torch and NVIDIA driver fit together: `python -P -m simtune.cluster.machine_check`.

The set-up of a cluster runs it on every machine, where a wrong image costs a minute instead of a failed trial. It does
not import torch.
"""

from __future__ import annotations

import ctypes
import platform
import runpy
import sys
from dataclasses import dataclass
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

from simtune.terminal import say

_NVIDIA, _DISPLAY = "0x10de", "0x03"
# Depend on the machine's driver, and torch names their versions itself.
_OF_THE_DRIVER = ("nvidia", "cuda", "triton")


@dataclass(frozen=True)
class Machine:
    """What was found on a machine.

    Attributes:
        torch: its version; empty if it is not installed.
        torch_cuda: the version of CUDA that torch is built for; empty for a build without CUDA.
        has_card: whether there is an NVIDIA card.
        driver_cuda: the newest version of CUDA that the driver supports; empty without a driver.
    """

    torch: str
    torch_cuda: str
    has_card: bool
    driver_cuda: str


def find_machine() -> Machine:
    """Looks at this machine."""
    torch, torch_cuda = _torch_build()
    return Machine(torch, torch_cuda, _has_nvidia_card(), _driver_cuda())


def problem(machine: Machine) -> str:
    """What does not fit, and the remedy; empty if all is well."""
    if not machine.torch:
        return "torch is not installed: look at the output of the line of setup_commands that installs simtune"
    if not machine.has_card:
        return ""
    if not machine.driver_cuda:
        return "an NVIDIA card, but no driver for it: use an image with the driver (docs/clusters.md)"
    if not machine.torch_cuda:
        return (
            f"an NVIDIA card, but torch {machine.torch} is built without CUDA: remove ~/simtune-env, so that the next "
            "`simtune cluster up` installs the build for this machine's driver"
        )
    # Within a major version, older drivers run newer minor versions.
    if _major(machine.driver_cuda) < _major(machine.torch_cuda):
        return (
            f"torch {machine.torch} needs a driver for CUDA {_major(machine.torch_cuda)}, and this machine's supports "
            f"CUDA {machine.driver_cuda}: use an image with a newer driver, or another version of torch in "
            "constraints.txt"
        )
    return ""


def write_versions(path: Path) -> None:
    """Writes what is installed here as constraints for pip, so that machines that start later get the same."""
    versions = {
        found.metadata["Name"].lower().replace("_", "-"): found.version.partition("+")[0]
        for found in distributions()
        if found.metadata["Name"]
    }
    versions.pop("simtune", None)
    lines = [f"{name}=={versions[name]}\n" for name in sorted(versions) if not name.startswith(_OF_THE_DRIVER)]
    path.write_text("".join(lines))


def _torch_build() -> tuple[str, str]:
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return "", ""
    build = runpy.run_path(str(Path(spec.origin).with_name("version.py")))
    return str(build["__version__"]), build.get("cuda") or ""


def _has_nvidia_card(devices: Path = Path("/sys/bus/pci/devices")) -> bool:
    return any(
        (device / "vendor").read_text().strip() == _NVIDIA and (device / "class").read_text().startswith(_DISPLAY)
        for device in devices.glob("*")
    )


def _driver_cuda() -> str:
    version = ctypes.c_int()
    try:
        failed = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return ""
    return "" if failed else f"{version.value // 1000}.{version.value % 1000 // 10}"


def _major(version: str) -> int:
    return int(version.partition(".")[0])


def main(arguments: list[str]) -> int:
    """Prints what was found; with the path of a file, also writes the versions to it. 1 if something does not fit."""
    machine = find_machine()
    if reason := problem(machine):
        say(f"error: {platform.node()}: {reason}", err=True)
        return 1
    torch = f"torch {machine.torch}" + (f" for CUDA {machine.torch_cuda}" if machine.torch_cuda else " for CPUs")
    driver = f"driver for CUDA {machine.driver_cuda}" if machine.driver_cuda else "no NVIDIA driver"
    say(f"Python {platform.python_version()}, {torch}, {driver}")
    for path in arguments:
        write_versions(Path(path))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
