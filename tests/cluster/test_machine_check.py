"""Set-up stops on a machine whose image, driver and torch do not fit together."""

import re

import pytest

from simtune.cluster import machine_check
from simtune.cluster.machine_check import Machine, find_machine, main, problem

GOOD = Machine(torch="2.13.0+cu130", torch_cuda="13.0", has_card=True, driver_cuda="13.1")
CPU = Machine(torch="2.13.0+cpu", torch_cuda="", has_card=False, driver_cuda="")


@pytest.mark.parametrize(
    "machine",
    [GOOD, CPU, Machine("2.13.0", "13.0", False, ""), Machine("2.13.0", "12.8", True, "12.4")],
    ids=["GPU", "CPU", "CUDA build without a card", "older driver of the same major version"],
)
def test_what_fits_is_accepted(machine) -> None:
    assert problem(machine) == ""


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        (Machine("", "", True, "13.0"), "torch is not installed"),
        (Machine("2.13.0", "13.0", True, ""), "no driver for it: use an image with the driver"),
        (Machine("2.13.0+cpu", "", True, "13.0"), "built without CUDA: remove ~/simtune-env"),
        (
            Machine("2.13.0", "13.0", True, "12.8"),
            r"needs a driver for CUDA 13, and this machine's supports CUDA 12\.8",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_a_remedy(machine, message) -> None:
    assert re.search(message, problem(machine))


def test_this_machine_is_looked_at_without_importing_torch() -> None:
    import subprocess
    import sys

    script = (
        "import sys; from simtune.cluster.machine_check import find_machine; found = find_machine(); "
        "print('torch' in sys.modules, found.torch)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    import importlib.metadata

    imported, version = done.stdout.split()
    assert imported == "False"
    assert version.startswith(importlib.metadata.version("torch").partition("+")[0])


def test_cards_are_found_by_vendor_and_class(tmp_path) -> None:
    for name, vendor, kind in (("audio", "0x10de", "0x040300"), ("other", "0x8086", "0x030000")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")
    assert not machine_check._has_nvidia_card(tmp_path)
    (tmp_path / "audio/class").write_text("0x030200\n")
    assert machine_check._has_nvidia_card(tmp_path)


def test_a_machine_that_does_not_fit_fails_the_set_up_with_its_name(monkeypatch, capsys) -> None:
    monkeypatch.setattr(machine_check, "find_machine", lambda: Machine("2.13.0", "13.0", True, ""))
    assert main([]) == 1
    assert re.fullmatch(r"error: \S+: an NVIDIA card, but no driver.*\n", capsys.readouterr().err)


def test_a_machine_that_fits_says_what_it_has_and_writes_the_versions(monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setattr(machine_check, "find_machine", lambda: GOOD)
    assert main([str(tmp_path / "versions.txt")]) == 0
    assert re.fullmatch(
        r"Python 3\.\d+\.\d+, torch 2\.13\.0\+cu130 for CUDA 13\.0, driver for CUDA 13\.1\n", capsys.readouterr().out
    )
    lines = (tmp_path / "versions.txt").read_text().splitlines()
    names = [line.partition("==")[0] for line in lines]
    assert {"ray", "torch", "pyyaml", "deepspeed"} <= set(names)
    # Not what differs between a head without a GPU and a worker with one, nor the package itself.
    assert not [line for line in lines if "+" in line or line.startswith(("simtune", "nvidia", "triton", "cuda"))]
    assert names == sorted(names)


def test_the_machine_of_the_tests_fits() -> None:
    assert problem(find_machine()) == ""
