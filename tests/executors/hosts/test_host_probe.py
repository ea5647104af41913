"""What a host says of itself, also where another simtune is installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pytest

import simtune
from simtune.executors.hosts import host_probe
from simtune.executors.hosts.host_probe import report_host
from simtune.executors.hosts.host_reports import HostFacts

NEEDS = {"probes": [], "encoders": [], "models": [], "host": "h1"}
# As Ray does: the function is sent by value, its argument and its result are plain values.
SENT = """
import json, sys
from ray import cloudpickle
from simtune import code_commit
from simtune.executors.hosts import host_probe
cloudpickle.register_pickle_by_value(host_probe)
cloudpickle.register_pickle_by_value(code_commit)
sys.stdout.buffer.write(cloudpickle.dumps(host_probe.report_host))
"""
RECEIVED = "import json, pickle, sys; print(json.dumps(pickle.load(sys.stdin.buffer)(json.loads(sys.argv[1]))))"


@pytest.fixture(scope="module")
def sent() -> bytes:
    return subprocess.run([sys.executable, "-c", SENT], capture_output=True, check=True).stdout


def ask(sent: bytes, package: Path, code: str) -> dict[str, Any]:
    """What a host says that has a package under the name simtune."""
    request = json.dumps({"code": code, "needs": NEEDS, "num_gpus": 0})
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", RECEIVED, request]
    done = subprocess.run(command, input=sent, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_this_host_reports_what_is_installed() -> None:
    facts = HostFacts(**report_host({"code": "", "needs": NEEDS, "num_gpus": 0}))
    assert facts.versions["torch"] == version("torch")
    assert facts.versions["simtune"] == simtune.__version__
    assert facts.problems == facts.found == {}
    assert facts.memory_bytes == pytest.approx(psutil.virtual_memory().total, rel=0.01)
    assert facts.cuda is None
    root = Path(simtune.__file__).parents[1]
    if (root / ".git").exists():
        assert re.fullmatch("[0-9a-f]{40}( with changes)?", facts.commit)


def test_a_host_with_other_code_says_so_and_runs_nothing_of_it(sent: bytes, tmp_path: Path) -> None:
    own = report_host({"code": "", "needs": NEEDS, "num_gpus": 0})["code"]
    copy = tmp_path / "copy" / "simtune"
    shutil.copytree(Path(simtune.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    assert ask(sent, copy, own)["code"] == own
    (copy / "config" / "examples" / "quickstart.yaml").write_text("name: another")
    changed = ask(sent, copy, own)["code"]
    # An older one, which would also fail if it were imported.
    old = tmp_path / "old" / "simtune"
    old.mkdir(parents=True)
    (old / "__init__.py").write_text("raise RuntimeError('imported')")
    report = ask(sent, old, own)
    assert len({own, changed, report["code"]}) == 3
    assert report["problems"] == {}


def test_gpus_are_counted_by_torch_whatever_ray_hides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(
        "import os\n__version__ = '2.13.0'\n"
        "class version:\n    cuda = '13.0'\n"
        "class cuda:\n"
        "    is_available = staticmethod(lambda: 'NO_GPU' not in os.environ)\n"
        "    device_count = staticmethod(lambda: 2 if 'CUDA_VISIBLE_DEVICES' not in os.environ else 0)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    def seen() -> Any:
        return report_host({"code": "none", "needs": NEEDS, "num_gpus": 2})["cuda"]

    assert seen() == {"devices": 2, "reason": ""}
    monkeypatch.setenv("NO_GPU", "1")
    assert seen() == {"devices": 0, "reason": "torch 2.13.0 is for CUDA 13.0"}
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so')")
    assert seen()["devices"] == 0
    assert "cannot be imported" in seen()["reason"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023", "535.104.05"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build", "580.95.05"),
        ("something else", ""),
    ],
)
def test_the_version_of_nvidias_driver_is_read(monkeypatch: pytest.MonkeyPatch, text: str, expected: str) -> None:
    monkeypatch.setattr(host_probe.Path, "read_text", lambda path: text)
    assert host_probe._cuda_driver() == expected


def test_the_memory_of_the_smallest_gpu_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\n[ "$1" = --query-gpu=memory.total ] && printf "81559\\n24564\\n"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(host_probe, "_cuda_devices", lambda: {"devices": 2, "reason": ""})
    request = {"code": "", "needs": NEEDS, "num_gpus": 2}
    assert report_host(request)["gpu_bytes"] == 24564 << 20
    assert report_host(request | {"num_gpus": 0})["gpu_bytes"] is None
    tool.write_text("#!/bin/sh\necho 'No devices were found'\n")
    assert report_host(request)["gpu_bytes"] is None
