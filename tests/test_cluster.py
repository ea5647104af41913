"""cluster.yaml against Ray's own schema and against what must hold for safety; starts nothing, asks no network."""

import copy
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "cluster.yaml").read_text()
CLUSTER = yaml.safe_load(TEXT)


@pytest.fixture(scope="module")
def prepared():
    """The file as `ray up` sees it: with the AWS provider's defaults merged in."""
    from ray.autoscaler._private.util import prepare_config

    return prepare_config(copy.deepcopy(CLUSTER))


def test_rays_schema_accepts_it(prepared):
    from ray.autoscaler._private.util import validate_config

    validate_config(prepared)


def test_rays_schema_would_refuse_a_mistake(prepared):
    import jsonschema
    from ray.autoscaler._private.util import validate_config

    with pytest.raises(jsonschema.ValidationError, match="setup_comands"):
        validate_config(prepared | {"setup_comands": []})


def test_rays_aws_defaults_stay_overridden(prepared):
    assert set(prepared["available_node_types"]) == {"head", "gpu"}
    assert all("InstanceMarketOptions" not in kind["node_config"] for kind in prepared["available_node_types"].values())
    commands = "\n".join(prepared["head_setup_commands"] + prepared["worker_setup_commands"])
    assert "https://" not in commands
    assert "anaconda" not in commands
    assert prepared["docker"] == {}


def test_the_bill_is_bounded_and_nothing_runs_unasked():
    head, gpu = (CLUSTER["available_node_types"][kind] for kind in ("head", "gpu"))
    assert (head["min_workers"], head["max_workers"], gpu["min_workers"]) == (0, 0, 0)
    assert gpu["max_workers"] == CLUSTER["max_workers"] > 0
    assert head["node_config"]["ImageId"] == gpu["node_config"]["ImageId"]
    assert CLUSTER["provider"]["cache_stopped_nodes"] is False


@pytest.mark.parametrize("role", ["head", "worker"])
def test_every_machine_starts_ray_from_the_venv_with_the_token(role):
    stop, start = CLUSTER[f"{role}_start_ray_commands"]
    for command in (stop, start):
        assert command.startswith("source ~/simtune-env/bin/activate && ")
        assert "\n" not in command
    assert stop.endswith("ray stop")
    # A token; no module from the working directory; logs that only this user reads.
    for setting in ("export RAY_AUTH_MODE=token", "PYTHONSAFEPATH=1", "unset PYTHONPATH", "umask 077"):
        assert start.index(setting) < start.index("ray start")
    assert "chmod 600 ~/.ray/auth_token" in CLUSTER["setup_commands"][0]
    assert CLUSTER["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"  # noqa: S105 a path
    assert "~/simtune-env" in " ".join(CLUSTER["setup_commands"])


def test_the_dashboard_and_rays_ports_are_reached_through_ssh_only():
    assert "--dashboard-host=127.0.0.1" in CLUSTER["head_start_ray_commands"][1]
    assert CLUSTER["provider"]["security_group"]["IpPermissions"] == []
    assert "0.0.0.0" not in TEXT  # noqa: S104 binds nothing


def test_no_secret_no_home_of_anyone_and_no_host_is_in_it():
    assert not re.search(r"AKIA|aws_secret|BEGIN [A-Z ]*PRIVATE KEY|[0-9a-f]{64}", TEXT)
    assert not re.search(r"/(home|Users|root|work)/", TEXT)
    assert not re.search(r"https?://|index-url", TEXT)
    assert not re.search(r"ami-[0-9a-f]{8,}", TEXT)
