"""Ray's autoscaler on hosts that exist: all of them are started, and started again after a loss."""

import json
import os
from pathlib import Path

import pytest
import yaml

from simtune.executors.hosts.existing_hosts import ExistingHosts, autoscaler_config, write_autoscaler_config

HEAD, FIRST, SECOND, THIRD = (f"10.0.0.{number}" for number in range(1, 5))


def sent_by_ray_up(*workers: str) -> dict:
    from ray.autoscaler._private.util import prepare_config

    provider = {"type": "local", "head_ip": HEAD, "worker_ips": list(workers)}
    return prepare_config({"cluster_name": "x", "provider": provider, "setup_commands": ["echo once"]})


@pytest.fixture
def bootstrap(tmp_path: Path) -> Path:
    """The file that `ray up` has sent to the head."""
    path = tmp_path / "ray_bootstrap_config.yaml"
    path.write_text(json.dumps(sent_by_ray_up(FIRST, SECOND)))
    return path


@pytest.fixture
def hosts(bootstrap: Path) -> ExistingHosts:
    config = json.loads(write_autoscaler_config(bootstrap).read_text())
    return ExistingHosts(config["provider"], "x")


def workers_asked_for(config: dict) -> int:
    """How many workers Ray's autoscaler v2 asks for beside a head that is there."""
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.schema import AutoscalerInstance
    from ray.core.generated.autoscaler_pb2 import NodeState
    from ray.core.generated.instance_manager_pb2 import Instance, NodeKind

    autoscaling = AutoscalingConfig(config, skip_content_hash=True)
    head = AutoscalerInstance(
        ray_node=NodeState(node_id=b"head", total_resources={"node:__internal_head__": 1.0}),
        im_instance=Instance(
            instance_id="head",
            status=Instance.RAY_RUNNING,
            instance_type=config["head_node_type"],
            node_kind=NodeKind.HEAD,
        ),
        cloud_instance_id="head",
    )
    request = SchedulingRequest(
        node_type_configs=autoscaling.get_node_type_configs(),
        max_num_nodes=autoscaling.get_max_num_nodes(),
        current_instances=[head],
        disable_launch_config_check=True,
    )
    return sum(launch.count for launch in ResourceDemandScheduler(None).schedule(request).to_launch)


def test_every_worker_is_asked_for_and_rays_own_form_asks_for_one_less(bootstrap) -> None:
    sent = sent_by_ray_up(FIRST, SECOND)
    assert workers_asked_for(sent) == 1
    assert workers_asked_for(autoscaler_config(sent, bootstrap)) == 2


def test_ray_accepts_the_changed_file_and_runs_set_up_once(bootstrap) -> None:
    from ray.autoscaler._private.providers import _get_node_provider_cls
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(json.loads(write_autoscaler_config(bootstrap).read_text()))
    validate_config(config)
    assert config["worker_setup_commands"] == ["echo once"]
    assert _get_node_provider_cls(config["provider"]) is ExistingHosts


def test_hosts_of_a_cloud_are_left_to_ray(bootstrap) -> None:
    bootstrap.write_text(yaml.safe_dump({"provider": {"type": "aws"}, "available_node_types": {}}))
    assert write_autoscaler_config(bootstrap) is None


def test_the_head_is_there_and_workers_are_named_by_host_and_start(hosts) -> None:
    assert hosts.non_terminated_nodes({}) == [HEAD]
    hosts.create_node({}, {"ray-node-kind": "worker"}, 5)
    first, second = hosts.non_terminated_nodes({"ray-node-kind": "worker"})
    assert [hosts.internal_ip(node) for node in (HEAD, first, second)] == [HEAD, FIRST, SECOND]
    assert first.startswith(f"{FIRST}_")
    assert hosts.is_running(first)
    hosts.set_node_tags(first, {"ray-node-status": "setting-up"})
    assert hosts.node_tags(first) == {"ray-node-kind": "worker", "ray-node-status": "setting-up"}
    assert hosts.node_tags(second) == {"ray-node-kind": "worker"}


def test_a_host_that_was_lost_is_started_again_under_another_name(hosts) -> None:
    hosts.create_node({}, {"ray-node-kind": "worker"}, 2)
    lost, kept = hosts.non_terminated_nodes({"ray-node-kind": "worker"})
    hosts.terminate_node(lost)
    assert hosts.is_terminated(lost)
    hosts.create_node({}, {"ray-node-kind": "worker"}, 1)
    _, again = hosts.non_terminated_nodes({"ray-node-kind": "worker"})
    assert again not in {lost, kept}
    assert hosts.internal_ip(again) == hosts.internal_ip(lost) == FIRST


def test_of_hosts_that_are_off_the_one_not_tried_for_longest_comes_first(hosts) -> None:
    tried = []
    for _ in range(3):
        hosts.create_node({}, {"ray-node-kind": "worker"}, 1)
        (node,) = hosts.non_terminated_nodes({"ray-node-kind": "worker"})
        tried.append(hosts.internal_ip(node))
        hosts.terminate_node(node)
    assert tried == [FIRST, SECOND, FIRST]


def test_a_host_that_is_added_to_the_file_is_there_without_a_restart(hosts, bootstrap) -> None:
    hosts.create_node({}, {"ray-node-kind": "worker"}, 2)
    bootstrap.write_text(json.dumps(sent_by_ray_up(FIRST, SECOND, THIRD)))
    os.utime(bootstrap, ns=(1, 1))
    assert len(hosts.non_terminated_nodes({})) == 3
    # The autoscaler reads this file again before each of its decisions.
    written = bootstrap.with_name("ray_bootstrap_config_existing_hosts.json")
    assert workers_asked_for(json.loads(written.read_text())) == 3
    hosts.create_node({}, {"ray-node-kind": "worker"}, 1)
    assert hosts.internal_ip(hosts.non_terminated_nodes({})[-1]) == THIRD


@pytest.mark.parametrize("text", ["{", "[]", "{}", "provider: {type: local}\navailable_node_types: []"])
def test_a_file_that_is_damaged_changes_nothing(text, hosts, bootstrap) -> None:
    bootstrap.write_text(text)
    os.utime(bootstrap, ns=(1, 1))
    hosts.create_node({}, {"ray-node-kind": "worker"}, 5)
    assert len(hosts.non_terminated_nodes({})) == 3
