"""How threads wait is set before OpenMP is loaded, in every process; a user's own setting stays."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from isolated import RayProcess

from simtune.threads import VARIABLES, set_waiting, waiting_environment


@pytest.fixture
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        # Also what the code under test sets is undone after the test.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def defaults(nothing_set: None) -> dict[str, str]:
    set_waiting()
    return waiting_environment()


def libgomp_says(command: list[str], **settings: str) -> set[str]:
    """The spin counts that each libgomp of a new process took when it was loaded."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment |= {"OMP_DISPLAY_ENV": "verbose", **settings}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return set(re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr))


@pytest.mark.skipif(sys.platform != "linux", reason="libgomp is Linux's")
@pytest.mark.parametrize(
    ("settings", "spins"),
    [
        ({}, None),
        ({"GOMP_SPINCOUNT": "77"}, "77"),
        ({"OMP_WAIT_POLICY": "passive"}, "0"),
    ],
)
def test_openmp_is_loaded_with_our_wait_or_the_users_own(
    defaults: dict[str, str], settings: dict[str, str], spins: str | None
) -> None:
    command = [sys.executable, "-c", "import simtune.cli, torch, sklearn.cluster"]
    assert libgomp_says(command, **settings) == {spins or defaults["GOMP_SPINCOUNT"]}


def test_no_library_with_threads_is_loaded_before_the_wait_is_set() -> None:
    script = """
import sys

class Loaded:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "sklearn", "sentencepiece", "ray", "numpy"}:
            import os
            print(name, "GOMP_SPINCOUNT" in os.environ)
            raise SystemExit

sys.meta_path.insert(0, Loaded())
import simtune.cli, simtune.sweep.run
"""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split()[1:] == ["True"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("OMP_WAIT_POLICY", "active"), ("GOMP_SPINCOUNT", "5"), ("KMP_BLOCKTIME", "200"), ("KMP_LIBRARY", "turnaround")],
)
def test_where_the_user_has_set_how_threads_wait_nothing_is_added(
    nothing_set: None, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    set_waiting()
    assert waiting_environment() == {name: value}


_IN_RAY = """
import json

def environment_at_start(arrays, begin, end):
    with open("/proc/self/environ") as environ:
        return dict(entry.split("=", 1) for entry in environ.read().split(chr(0)) if "=" in entry)

# Enough rows that the blocks are computed on Ray.
(environment,) = executor.map_blocks(environment_at_start, {}, [(0, 1_000_000)])
print(json.dumps(environment))
"""


@pytest.mark.ray
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_rays_workers_start_with_it(defaults: dict[str, str], ray_process: RayProcess) -> None:
    environment = json.loads(ray_process.run(_IN_RAY))
    assert {name: environment[name] for name in VARIABLES if name in environment} == defaults
