"""What `ray start` is told on every host of a cluster; what it then listens on is tests/cluster/test_on_prem.py's."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from simtune.errors import RunError
from simtune.executors import ray_start_hook
from simtune.executors.ray_start_hook import prepare_host


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """The environment that the hook sees, empty at first."""
    values: dict[str, str] = {}
    monkeypatch.setattr(ray_start_hook, "os", SimpleNamespace(environ=values, chdir=os.chdir))
    monkeypatch.setattr(ray_start_hook, "cluster_folder", lambda: tmp_path / "private")
    monkeypatch.chdir(tmp_path)
    return values


def node(autoscaling_config=None, temp_dir=None):
    return SimpleNamespace(ray_client_server_port=10001, autoscaling_config=autoscaling_config, temp_dir=temp_dir)


def test_the_client_server_is_not_started() -> None:
    parameters = node()
    prepare_host(parameters, True)
    assert parameters.ray_client_server_port is None


def test_ray_keeps_its_files_in_a_private_folder_unless_told_otherwise(environment, tmp_path) -> None:
    parameters = node(temp_dir="/some/folder")
    prepare_host(parameters, False)
    assert parameters.temp_dir == "/some/folder"
    assert "RAY_TMPDIR" not in environment
    parameters = node()
    prepare_host(parameters, False)
    assert parameters.temp_dir == str(tmp_path / "private/ray")
    assert environment["RAY_TMPDIR"] == str(tmp_path / "private")


def test_no_folder_for_its_files_is_one_message(monkeypatch) -> None:
    def none():
        raise RunError("no folder is suitable")

    monkeypatch.setattr(ray_start_hook, "cluster_folder", none)
    with pytest.raises(SystemExit, match="simtune: no folder is suitable"):
        prepare_host(node(), True)


def test_ray_runs_in_no_directory_in_which_files_are_kept(tmp_path) -> None:
    (tmp_path / "bootstrap.yaml").write_text(json.dumps({"provider": {"type": "aws"}}))
    parameters = node("bootstrap.yaml")
    prepare_host(parameters, True)
    assert Path.cwd() == Path("/")
    assert Path(parameters.autoscaling_config).exists()


def test_a_lost_host_is_noticed_within_20_seconds(environment) -> None:
    prepare_host(node(), True)
    period, timeout, failures = (
        int(environment[f"RAY_health_check_{name}"]) for name in ("period_ms", "timeout_ms", "failure_threshold")
    )
    # The first check comes up to a period after the loss.
    assert failures * (period + timeout) <= 20_000


def test_only_the_head_gets_settings_of_the_head(environment) -> None:
    prepare_host(node(temp_dir="/some/folder"), False)
    assert environment == {"RAY_enable_metrics_collection": "0"}


def test_what_the_start_command_sets_stays(environment) -> None:
    environment["RAY_health_check_period_ms"] = "5000"
    prepare_host(node(), True)
    assert environment["RAY_health_check_period_ms"] == "5000"


@pytest.mark.parametrize(("provider", "changed"), [("local", True), ("aws", False)])
def test_the_autoscaler_is_changed_for_hosts_that_exist_alone(provider, changed, tmp_path) -> None:
    cluster = {
        "provider": {"type": provider, "head_ip": "10.0.0.1", "worker_ips": []},
        "head_node_type": "local.cluster.node",
        "available_node_types": {"local.cluster.node": {"min_workers": 0, "max_workers": 0}},
    }
    path = tmp_path / "bootstrap.yaml"
    path.write_text(json.dumps(cluster))
    parameters = node(str(path))
    prepare_host(parameters, True)
    assert (parameters.autoscaling_config != str(path)) is changed


def test_ray_itself_reports_a_file_that_is_missing(tmp_path) -> None:
    parameters = node(str(tmp_path / "none.yaml"))
    prepare_host(parameters, True)
    assert parameters.autoscaling_config == str(tmp_path / "none.yaml")
