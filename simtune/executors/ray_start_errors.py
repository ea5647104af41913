"""Why Ray did not start, and what to do about it.

A local Ray consists of processes: its head (the GCS) and its raylet. Ray waits half a minute for each. On a busy
machine that is too short; one that was killed or stopped in the meantime gives the same errors. Both are worth another
try, wrong settings are not.
"""

from __future__ import annotations

import contextlib
import re

import psutil
import ray

from simtune.errors import RunError, ServiceError, SimtuneError
from simtune.executors.base import ExecutorName
from simtune.ray_head import RAY_IS_LOST
from simtune.ray_token import refusal
from simtune.redaction import command_again
from simtune.wording import counted

_TOKEN_REFUSED = re.compile("authentication token|InvalidAuthToken|Unauthenticated", re.IGNORECASE)
# What settings, files and packages raise, which another try would raise again.
_LASTING = (ValueError, TypeError, ImportError, OSError, SimtuneError)
_HEAD, _RAYLET = "gcs_server", "raylet"


class RayNotStartedError(ServiceError):
    """The processes of a local Ray did not start, but may do so later."""

    exit_code = RAY_IS_LOST


def is_worth_another_try(error: Exception) -> bool:
    """Whether a local Ray may start where it has just failed, because its processes were too slow or were lost."""
    return isinstance(error, (TimeoutError, ConnectionError)) or not isinstance(error, _LASTING)


def what_happened(since: float) -> str:
    """What has become of the processes of a local Ray that did not start.

    Args:
        since: when its start began, in seconds since the epoch; processes of earlier tries may still be there.
    """
    found: dict[str, tuple[int, str]] = {}
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            # The kernel rounds the start of a process.
            if child.create_time() >= since - 1:
                found[child.name()] = child.pid, child.status()
    # Ray starts its raylet only once its head answers.
    found.setdefault(_HEAD, (0, psutil.STATUS_ZOMBIE))
    for name in (_HEAD, _RAYLET):
        process, status = found.get(name, (0, ""))
        if status == psutil.STATUS_ZOMBIE:
            return f"its process {name} has ended: it was killed, or could not get memory or disk space"
        if status == psutil.STATUS_STOPPED:
            return f"its process {name} ({process}) is stopped"
    return "its processes were too slow, as on a very busy machine"


def not_started(name: ExecutorName, error: Exception, happened: str = "", tries: int = 1) -> SimtuneError:
    """What to tell the user.

    Args:
        name: `local` or `cluster`.
        error: what Ray raised.
        happened: to the processes of a local Ray; empty if the error is not about them.
        tries: how often a local Ray was started.
    """
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if name == "cluster" and _is_about_token(error):
        return RunError(f"--executor cluster: a Ray cluster is running here, but refuses this command: {refusal()}")
    if name == "cluster":
        return RunError(
            f"--executor cluster: no Ray cluster is running here ({reason}). Run this command on the head node of "
            "a cluster started with `ray up cluster.yaml`, or use --executor local"
        )
    if happened:
        return RayNotStartedError(
            f"a local Ray has not started in {counted(tries, 'try', 'tries')}: {happened} (Ray: {reason}). Look for "
            "other programs that use all cores or memory, or that stop or kill processes. Finished results are kept; "
            f"run `{command_again()}` to continue, or use --executor inline"
        )
    return RunError(
        f"a local Ray could not be started ({type(error).__name__}: {reason}). Set RAY_TMPDIR to a folder with a "
        "short path and free space on a local disk, or use --executor inline"
    )


def _is_about_token(error: BaseException) -> bool:
    """Whether Ray refuses this process because it has no token, or another one."""
    if isinstance(error, ray.exceptions.AuthenticationError) or _TOKEN_REFUSED.search(str(error)):
        return True
    cause = error.__cause__ or error.__context__
    return cause is not None and _is_about_token(cause)
