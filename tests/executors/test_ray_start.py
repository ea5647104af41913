"""What a local Ray is started with: search paths, and an environment that is restored when it has ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import simtune
from simtune.errors import RunError
from simtune.executors import ray_start
from simtune.executors.ray_log import RAY_LOG, RayLog
from simtune.executors.ray_start_errors import RayNotStartedError, what_happened


def test_the_working_directory_is_no_place_for_modules(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "link").symlink_to(".")
    environment = {"PYTHONPATH": ":/a::.:./:.//.:src/..:link:src:/b:", "PATH": "/bin:", "HOME": "."}
    assert ray_start._absolute_search_paths(environment, tmp_path) == {
        "PYTHONPATH": f"/a:{tmp_path}/src:/b",
        "PATH": "/bin",
    }
    for name in ("statistics", "typing_extensions", "yaml", "csv", "click"):
        (tmp_path / f"{name}.py").write_text("open('marker', 'a').write(__name__)\nraise SystemError")
    module, script = [sys.executable, "-m", "simtune.cli"], [str(Path(sys.executable).with_name("simtune"))]
    cases = [(module, ""), (module, ":/a"), (script, "/a:"), (script, "./"), (module, "/a:.//."), (script, "link:/a:.")]
    for started, search_path in cases:
        done = subprocess.run(
            [*started, "strategies"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": search_path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, (tmp_path / "marker").exists()) == (0, False), (search_path, done.stderr)


def test_a_removed_working_directory_is_no_error(tmp_path: Path) -> None:
    command = 'mkdir gone && cd gone && rmdir ../gone && exec "$0" -m simtune.cli --version'
    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_workers_find_the_drivers_package_and_nothing_beside_it(tmp_path: Path) -> None:
    package = tmp_path / "checkout/simtune"
    shutil.copytree(Path(simtune.__file__).parent, package, ignore=shutil.ignore_patterns("*.pyc"))
    script = (
        "import os, sys\n"
        f"sys.path.insert(0, {str(package.parent)!r})\n"
        "from pathlib import Path\n"
        "from simtune.executors import ray_start\n"
        "assert not ray_start._finds_package(os.environ)\n"
        "print(ray_start._path_to_package(Path.cwd(), None))\n"
    )
    driver = subprocess.run(
        [sys.executable, "-P", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert driver.returncode == 0, driver.stderr
    (package.parent / "statistics.py").write_text("raise SystemError")
    environment = {**os.environ, "PYTHONPATH": driver.stdout.strip()}
    script = "import statistics, simtune, os; print(os.path.realpath(simtune.__file__))"
    worker = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd="/", capture_output=True, text=True, check=True
    )
    assert worker.stdout.strip() == str(package / "__init__.py")


def test_the_environment_is_as_it_was_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    before = dict(os.environ)
    with ray_start._environment({**os.environ, "PYTHONSAFEPATH": "1", "PATH": "/x"}, ("RAY_AUTH_MODE",)):
        assert "RAY_AUTH_MODE" not in os.environ
        assert (os.environ["PYTHONSAFEPATH"], os.environ["PATH"]) == ("1", "/x")
    assert dict(os.environ) == before


def test_a_local_ray_whose_processes_are_slow_or_lost_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself raises these after 30 seconds, and leaves processes and a folder."""
    folders, notes = [], list[str]()
    failures: list[Exception] = [
        Exception("The current node timed out during startup. ..."),
        RuntimeError("Failed to start GCS.  Last 0 lines of error files: ..."),
        RuntimeError("Timed out waiting for file /tmp/.../gcs_server_port_0, ..."),
    ]

    def init(*, _temp_dir: str, **_: object) -> None:
        folders.append(Path(_temp_dir).parent)
        raise failures[len(folders) - 1]

    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(ray_start.ray, "init", init)
    monkeypatch.setattr("sys.argv", ["/bin/simtune", "run", "my sweep.yaml"])
    with pytest.raises(
        RayNotStartedError, match=r"has not started in 3 tries: .* run `simtune run 'my s.*continue"
    ) as at:
        ray_start.StartedRay("local", RayLog(), notes.append)
    assert "(Ray: Timed out waiting for file" in str(at.value)
    assert at.value.exit_code == 75
    assert "RAY_TMPDIR" not in str(at.value)
    assert (len(set(folders)), len(notes)) == (3, 2)
    folders.clear()
    failures[:2] = [ConnectionError("Failed to connect to Ray cluster at ..."), ValueError("another reason")]
    with pytest.raises(RunError, match=r"another reason.*RAY_TMPDIR"):
        ray_start.StartedRay("local", RayLog())
    assert len(folders) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_head_that_has_ended_or_is_stopped_is_told_from_a_slow_one(tmp_path: Path) -> None:
    shutil.copy("/bin/sleep", tmp_path / "gcs_server")
    since = time.time()
    with subprocess.Popen([tmp_path / "gcs_server", "60"]) as head:
        assert "too slow" in what_happened(since)
        head.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, head.pid, os.WSTOPPED | os.WNOWAIT)
        assert f"gcs_server ({head.pid}) is stopped" in what_happened(since)
        head.kill()
        os.waitid(os.P_PID, head.pid, os.WEXITED | os.WNOWAIT)
        assert "gcs_server has ended" in what_happened(since)
    # A process that is gone altogether has ended, too.
    assert "gcs_server has ended" in what_happened(since)


def test_a_ray_that_neither_starts_nor_fails_ends_the_driver_with_the_next_command(tmp_path: Path) -> None:
    """As one whose head is stopped while it starts."""
    script = (
        "import time\n"
        "from simtune.executors import ray_start\n"
        "from simtune.executors.ray_log import RayLog\n"
        "ray_start._START_LIMIT_S = 0.5\n"
        "ray_start.ray.init = lambda **_: time.sleep(60)\n"
        "ray_start.StartedRay('local', RayLog())\n"
    )
    environment = {**os.environ, "RAY_TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=50)
    assert done.returncode == 75, done.stderr
    assert "error: a local Ray has not answered for 0 s, and nothing can run without it." in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_warnings_of_rays_servers_are_no_results_and_with_a_run_go_to_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = RayLog()
    monkeypatch.setattr(ray_start.ray_worker, "print_to_stdstream", None)
    warning = {"lines": ["many workers were started"], "pid": "raylet", "is_err": False}
    ray_start._keep_ray_off_standard_output(log)
    ray_start.ray_worker.print_to_stdstream(warning, ignore_prefix=False)
    lost = ["Raylet is terminated. Last 20 lines of the Raylet logs:\n    ..."]
    ray_start.ray_worker.print_to_stdstream(warning | {"lines": lost}, ignore_prefix=True)
    ray_start._keep_ray_off_standard_output(log, silent=True)
    ray_start.ray_worker.print_to_stdstream(warning | {"lines": ["its raylet's log"]}, ignore_prefix=False)
    said = capsys.readouterr()
    assert said.out == ""
    assert "many workers were started" in said.err
    assert "log" not in said.err
    assert "terminated" not in said.err
    log.write_to(tmp_path)
    ray_start._keep_ray_off_standard_output(log)
    ray_start.ray_worker.print_to_stdstream(warning, ignore_prefix=False)
    assert capsys.readouterr() == ("", "")
    assert (tmp_path / RAY_LOG).read_text().endswith(" (raylet) many workers were started\n")


def test_no_address_with_a_password_is_handed_to_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://me:planted-password@store")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    handed_on = ray_start._store_environment()
    assert handed_on["AWS_REGION"] == "eu-west-1"
    assert "AWS_ENDPOINT_URL" not in handed_on
