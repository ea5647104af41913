"""Starts a local Ray, or connects to the cluster that this machine belongs to.

A local Ray is private to this user: it listens on the loopback interface, requires a token, and keeps its files in a
folder that no other user can open. Workers never import modules from the working directory of the command.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import ray
from ray._private import worker as ray_worker
from ray.job_config import JobConfig

import simtune
from simtune.deadline import deadline
from simtune.errors import SimtuneError
from simtune.executors.base import ExecutorName
from simtune.executors.local_ray_processes import on_loopback, own_process_groups, without_unused_servers
from simtune.executors.placement import num_local_cpus
from simtune.executors.ray_folder import LOCAL_RAY, RayFolder, last_error
from simtune.executors.ray_head_watch import LIMITS, HeadWatch, end_driver
from simtune.executors.ray_log import RayLog
from simtune.executors.ray_start_errors import is_worth_another_try, not_started, what_happened
from simtune.executors.ray_train import POLL_INTERVAL_S
from simtune.redaction import redact
from simtune.storage.object_client import location_variables
from simtune.threads import waiting_environment

_WORKER_ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "DEEPSPEED_LOG_LEVEL": "error",
    "PYTHONWARNINGS": "ignore",
    # Tune's own tables would overwrite ours.
    "RAY_AIR_NEW_OUTPUT": "0",
    # Tune would take Ctrl-C as a request to finish early, but a sweep has to stop so that it can be continued.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": POLL_INTERVAL_S,
    # A cluster may be busy, or still growing: waiting for a host is not a failure; `resources.wait_minutes` limits it.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(10**8),
    # One process less per trial. It would warn workers that their host will be taken back, and ours do not use that:
    # they continue elsewhere from their last checkpoint.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
_LOCAL_ENVIRONMENT = {
    **_WORKER_ENVIRONMENT,
    # A trial has about ten processes that mostly wait. Ray would warn that they are too many for a few cores.
    "RAY_worker_maximum_startup_concurrency": "32",
}
# Neither the working directory nor the folder of a script is searched for modules.
_SAFE_PATH = {"PYTHONSAFEPATH": "1"}
# Lists of folders, in which an empty entry means the working directory.
_SEARCH_PATHS = ("PYTHONPATH", "PATH", "LD_LIBRARY_PATH")

_START_TRIES = 3
_START_LIMIT_S = 120.0

_print_lines = ray_worker.print_to_stdstream


class StartedRay:
    """A Ray that this process is connected to, until `stop`."""

    def __init__(self, name: ExecutorName, log: RayLog, note: Callable[[str], object] = lambda line: None) -> None:
        """Starts a local Ray, or connects to a cluster.

        Args:
            name: `local` or `cluster`.
            log: takes what Ray says.
            note: called with a line for the user if a local Ray has to be started again.

        Raises:
            RunError: this machine belongs to no cluster, or a local Ray cannot start here.
            RayNotStartedError: the processes of a local Ray were too slow or were lost, in every try.
        """
        self._name, self._log, self._note = name, log, note
        self._watch: HeadWatch | None = None
        self._folder: RayFolder | None = None
        self._cleanup = contextlib.ExitStack()
        # Runs before Ray's own clean-up, which the watch would take for a loss.
        atexit.register(self.stop)
        for noisy in ("ray", "ray.data", "ray.train", "ray.tune"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        _keep_credentials_out_of_logs()
        _keep_ray_off_standard_output(log)
        log.replace_handlers(logging.getLogger("ray"))
        terminated = signal.getsignal(signal.SIGTERM)
        try:
            self._init()
        except BaseException as error:
            self.stop()
            if isinstance(error, Exception) and not isinstance(error, SimtuneError):
                raise not_started(name, error) from error
            raise
        finally:
            if threading.current_thread() is threading.main_thread():
                # Ray replaces the handler by one that ends the process without a message.
                signal.signal(signal.SIGTERM, terminated)
        first: list[Any] = []
        context = ray.get_runtime_context()
        self._watch = HeadWatch(
            _servers(context),
            LIMITS[name],
            self._end,
            _processes_of(context.get_node_id()),
            ready=lambda: name == "cluster" or (bool(first) and bool(ray.wait(first, timeout=0)[0])),
        )
        if name == "local":
            # A lambda is sent by value, so that the worker need not import this module.
            first.append(ray.remote(num_cpus=0)(lambda: None).remote())

    def stop(self) -> None:
        """Stops a local Ray and removes its files, or disconnects from the cluster."""
        atexit.unregister(self.stop)
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        with self._cleanup.pop_all():
            ray.shutdown()
        self._log.restore_handlers(logging.getLogger("ray"))
        self._log.close()

    def _init(self) -> None:
        """Starts Ray here or connects to a cluster; tries again where a local Ray's processes were slow or lost."""
        for number in range(1, _START_TRIES + 1):
            arguments = self._connect() if self._name == "cluster" else self._start_here()
            since = time.time()
            try:
                with deadline(_START_LIMIT_S, self._end_endless_start), own_process_groups():
                    ray.init(**arguments, job_config=_NoDriverPaths(), log_to_driver=False, logging_level=logging.ERROR)
                return
            except Exception as error:
                if self._name == "cluster" or not is_worth_another_try(error):
                    raise
                happened = what_happened(since)
                if number == _START_TRIES:
                    raise not_started(self._name, error, happened, tries=number) from error
                self._note(f"a local Ray has not started: {happened}. Trying again")
                with self._cleanup.pop_all():
                    ray.shutdown()

    def _end_endless_start(self) -> None:
        """Ends this process because Ray neither starts nor fails: if its head does not answer, it waits forever."""
        name = "a local Ray" if self._name == "local" else "this machine's Ray"
        self._end(f"{name} has not answered for {_START_LIMIT_S:.0f} s")

    def _start_here(self) -> dict[str, Any]:
        folder = RayFolder()
        self._cleanup.callback(folder.remove)
        self._folder = folder
        forced = {
            **_SAFE_PATH,
            **_absolute_search_paths(os.environ, Path.cwd()),
            LOCAL_RAY: str(folder.path),
            "RAY_AUTH_TOKEN_PATH": str(folder.new_token()),
            # Keeps Ray on the loopback interface, as on systems that do not support clusters.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        }
        if not _finds_package({**os.environ, **forced}):
            forced["PYTHONPATH"] = _path_to_package(folder.path, forced.get("PYTHONPATH", os.environ.get("PYTHONPATH")))
        # With these Ray would not require a token, would prefer a token in the environment, or use another cluster.
        removed = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ADDRESS")
        # A local Ray inherits these. A runtime environment would work too, but would prevent prestarted processes.
        self._cleanup.enter_context(_environment({**_LOCAL_ENVIRONMENT, **os.environ, **forced}, removed))
        folder.start_reaper()
        self._cleanup.enter_context(on_loopback())
        self._cleanup.enter_context(without_unused_servers())
        # `local`, not None: with None, a file left by a killed cluster would lead to a cluster that no longer exists.
        return {
            "address": "local",
            "num_cpus": num_local_cpus(),
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",
            "_temp_dir": str(folder.temporary),
        }

    def _connect(self) -> dict[str, Any]:
        self._cleanup.enter_context(_environment({**_WORKER_ENVIRONMENT, **os.environ}))
        return {
            "address": "auto",
            "runtime_env": {
                "env_vars": _WORKER_ENVIRONMENT | _SAFE_PATH | waiting_environment() | _store_environment()
            },
        }

    def _end(self, lost: str) -> None:
        """Ends this process because Ray is lost."""
        # Otherwise Ray would print its raylet's log below the command that continues the run.
        _keep_ray_off_standard_output(self._log, silent=True)
        if self._folder is None:
            end_driver(lost)
            return
        with contextlib.suppress(OSError):
            reason = last_error(self._folder.temporary / "session_latest" / "logs")
            lost += f" (the last error in its logs: {reason})" if reason else ""
        end_driver(lost, self._folder.kill_descendants, self._folder.remove)


class _NoDriverPaths(JobConfig):
    """Prevents workers from searching the driver's script folder and working directory for modules, as Ray would."""

    @property
    def _py_driver_sys_path(self) -> list[str]:
        return []

    @_py_driver_sys_path.setter
    def _py_driver_sys_path(self, folders: list[str]) -> None:
        pass


def _servers(context: Any) -> dict[str, str]:
    """The servers that this process depends on, with their addresses."""
    servers = {"Ray's head": context.gcs_address}
    for node in ray.nodes():
        if node["NodeID"] == context.get_node_id():
            servers["Ray's raylet"] = f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
    return servers


def _processes_of(node: str) -> list[int]:
    """The processes on this machine that this process depends on: the node's raylet and the head of a local Ray."""
    heads = [child.pid for child in psutil.Process().children() if child.name() == "gcs_server"]
    raylets = psutil.process_iter(["name", "cmdline"])
    return heads + [
        process.pid
        for process in raylets
        if process.info["name"] == "raylet" and any(node in part for part in process.info["cmdline"] or ())
    ]


def _keep_credentials_out_of_logs() -> None:
    """Stops Tune from passing AWS credentials to its actors in a runtime environment, which Ray writes into a log.

    Workers of a local Ray inherit them anyway, and those of a cluster have their own.
    """
    # Internal to Ray 2.60; a test with planted values checks the effect.
    with contextlib.suppress(ImportError, AttributeError):
        from ray.tune.execution import class_cache

        propagated = class_cache.ENV_VARS_TO_PROPAGATE
        propagated.difference_update([name for name in propagated if name.startswith("AWS_")])


def _keep_ray_off_standard_output(log: RayLog, silent: bool = False) -> None:
    """Sends warnings of Ray's servers to a log, else to standard error; Ray would print them among the results.

    Args:
        log: takes them once there is a run.
        silent: sends those that it does not take nowhere.
    """

    def say(data: dict[str, Any], ignore_prefix: bool) -> None:
        taken = log.take(f"({data.get('pid')}) " + "\n".join(data["lines"]))
        # What we say about a lost raylet is shorter than its log.
        if not taken and not silent and not any(line.startswith("Raylet is terminated") for line in data["lines"]):
            _print_lines({**data, "is_err": True}, ignore_prefix)

    ray_worker.print_to_stdstream = say


def _store_environment() -> dict[str, str]:
    """Where the workers of a cluster find the object store; without secrets, since Ray shows these to all its users."""
    values = {name: os.environ[name] for name in location_variables() if name in os.environ}
    return {name: value for name, value in values.items() if redact(value) == value}


def _absolute_search_paths(environment: Mapping[str, str], here: Path) -> dict[str, str]:
    """Search paths without the working directory and with absolute entries."""
    changed = {}
    for name in _SEARCH_PATHS:
        if name in environment:
            entries = [entry for entry in environment[name].split(os.pathsep) if not _means(entry, here)]
            changed[name] = os.pathsep.join(str(here / entry) for entry in entries)
    return changed


def _means(entry: str, here: Path) -> bool:
    """Whether an entry of a search path is empty, or a relative path to the working directory, whichever."""
    path = here / entry
    return not entry or (not Path(entry).is_absolute() and path.is_dir() and path.samefile(here))


def _finds_package(environment: Mapping[str, str]) -> bool:
    """Whether a new process with this environment imports this very package, and no other of the same name."""
    root = _package().parent
    if root in (Path(sysconfig.get_path("purelib")), Path(sysconfig.get_path("platlib"))):
        return True
    script = "import importlib.util as u; found = u.find_spec('simtune'); print(found.origin if found else '')"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=dict(environment), cwd="/", capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() == str(_package() / "__init__.py")


def _path_to_package(folder: Path, python_path: str | None) -> str:
    """A search path that leads to this package, but not to other files in its parent folder."""
    (folder / "packages").mkdir(mode=0o700)
    (folder / "packages" / "simtune").symlink_to(_package(), target_is_directory=True)
    return os.pathsep.join([str(folder / "packages"), *([python_path] if python_path else [])])


def _package() -> Path:
    return Path(simtune.__file__).absolute().parent


@contextlib.contextmanager
def _environment(values: Mapping[str, str], removed: tuple[str, ...] = ()) -> Iterator[None]:
    """Changes this process's environment, and restores it afterwards."""
    before = dict(os.environ)
    try:
        os.environ.update(values)
        for name in removed:
            os.environ.pop(name, None)
        yield
    finally:
        for name in set(os.environ) | set(before):
            if name not in before:
                del os.environ[name]
            elif os.environ.get(name) != before[name]:
                os.environ[name] = before[name]
