"""What every `ray start` of a cluster does first, as its `RAY_START_HOOK`.

Ray listens on more than a cluster needs, and some of it asks for no token; it lets every user of a host write into its
folders; its jobs import from the directory in which it was started; it notices the loss of a host late; and on machines
that exist already its autoscaler starts too few. Settings that are in the environment are left as they are.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from simtune.errors import RunError
from simtune.executors.ray_folder import TEMPORARY, cluster_folder

_EVERY_HOST = {
    # Each host's metrics, on a port of all its addresses.
    "RAY_enable_metrics_collection": "0",
}
_HEAD = {
    # The metrics of the autoscaler and of the dashboard, on all addresses: no port of this number can be opened, which
    # Ray reports in its log and goes on.
    "AUTOSCALER_METRIC_PORT": "-1",
    "DASHBOARD_METRIC_PORT": "-1",
    # A host is lost when two checks, 1 s apart, get no answer for 8 s each: after 17 to 18 s. Shorter times for more
    # checks would take a busy host for a lost one.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "8000",
    "RAY_health_check_failure_threshold": "2",
    # Processes that start at the same time. Ray takes the number of CPUs offered; a head offers none, but has the
    # trials' controllers.
    "RAY_worker_maximum_startup_concurrency": "32",
}


def prepare_host(parameters: Any, is_head: bool) -> None:
    """Changes what Ray is about to start on this host.

    Args:
        parameters: of the node, as Ray's command line has read them.
        is_head: whether it is the head.

    Raises:
        SystemExit: no folder is suitable for Ray's files.
    """
    # Ray's client server listens on the head's address. The command line refuses 0 as its port.
    parameters.ray_client_server_port = None
    for name, value in (_EVERY_HOST | (_HEAD if is_head else {})).items():
        os.environ.setdefault(name, value)
    if parameters.temp_dir is None:
        try:
            folder = cluster_folder()
        except RunError as error:
            raise SystemExit(f"simtune: {error}") from None
        # By default, a worker's host takes the path of the head's folder, and the head writes its address into Ray's
        # default folder.
        parameters.temp_dir = str(folder / TEMPORARY)
        os.environ["RAY_TMPDIR"] = str(folder)
    if is_head and parameters.autoscaling_config:
        # Needs ray, which `ray start` has imported.
        from simtune.executors.hosts.existing_hosts import write_autoscaler_config

        path = Path(parameters.autoscaling_config).expanduser().absolute()
        # Ray says what it misses.
        parameters.autoscaling_config = str((path.exists() and write_autoscaler_config(path)) or path)
    # The job server's processes import from the directory in which they run, before anything else.
    os.chdir("/")
