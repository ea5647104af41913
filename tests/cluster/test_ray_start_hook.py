"""What `ray start` is told on every host of a cluster; what it then listens on is tests/cluster/test_on_prem.py's."""

from types import SimpleNamespace

import pytest

from simtune.cluster import ray_start_hook
from simtune.cluster.ray_start_hook import close_ports


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """The environment that the hook sees, empty at first."""
    values: dict[str, str] = {}
    monkeypatch.setattr(ray_start_hook, "os", SimpleNamespace(environ=values))
    return values


def test_the_client_server_is_not_started() -> None:
    parameters = SimpleNamespace(ray_client_server_port=10001)
    close_ports(parameters, True)
    assert parameters.ray_client_server_port is None


def test_a_lost_host_is_noticed_within_20_seconds(environment) -> None:
    close_ports(SimpleNamespace(), True)
    period, timeout, failures = (
        int(environment[f"RAY_health_check_{name}"]) for name in ("period_ms", "timeout_ms", "failure_threshold")
    )
    # The first check comes up to a period after the loss.
    assert failures * (period + timeout) <= 20_000


def test_only_the_head_gets_settings_of_the_head(environment) -> None:
    close_ports(SimpleNamespace(), False)
    assert environment == {"RAY_enable_metrics_collection": "0"}


def test_what_the_start_command_sets_stays(environment) -> None:
    environment["RAY_health_check_period_ms"] = "5000"
    close_ports(SimpleNamespace(), True)
    assert environment["RAY_health_check_period_ms"] == "5000"
