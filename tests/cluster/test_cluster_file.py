"""The file of a cluster: what is read from it, and what is said about a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from simtune.cluster.cluster_file import read_cluster_file
from simtune.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return path


def test_the_committed_file_can_be_read() -> None:
    cluster = read_cluster_file(ROOT / "cluster.yaml")
    assert (cluster.provider, cluster.user, cluster.dashboard_port) == ("aws", "ubuntu", 8265)
    assert cluster.activate == ". ~/simtune-env/bin/activate && "


def test_a_file_for_machines_that_exist_names_them_and_the_port_of_the_job_server(tmp_path: Path) -> None:
    settings = {
        "cluster_name": "lab",
        "provider": {"type": "local", "head_ip": "10.1.0.1", "worker_ips": ["10.1.0.2"]},
        "auth": {"ssh_user": "me", "ssh_private_key": "~/.ssh/lab", "ssh_proxy_command": "nc gate %h"},
        "head_start_ray_commands": [". /opt/env/bin/activate; ray start --head --dashboard-port 9000"],
    }
    cluster = read_cluster_file(written(tmp_path, yaml.safe_dump(settings)))
    assert (cluster.head_address, cluster.worker_addresses) == ("10.1.0.1", ("10.1.0.2",))
    assert cluster.keys == (Path("~/.ssh/lab").expanduser(),)
    assert (cluster.proxy_command, cluster.dashboard_port) == ("nc gate %h", 9000)
    assert cluster.activate == ". /opt/env/bin/activate && "


def test_the_keys_that_ray_made_for_the_region_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    for name in ("ray-autoscaler_eu-west-1.pem", "ray-autoscaler_us-west-2.pem", "id_rsa"):
        (tmp_path / ".ssh" / name).touch()
    text = "cluster_name: a\nprovider: {type: aws, region: us-west-2}\nauth: {ssh_user: ubuntu}\n"
    cluster = read_cluster_file(written(tmp_path, text))
    assert [key.name for key in cluster.keys] == ["ray-autoscaler_us-west-2.pem"]
    assert cluster.head_address is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cluster_name: [\n", "c.yaml, line 2: not valid YAML"),
        ("cluster_name: 2024-13-45\n", "c.yaml: not valid YAML (month must be in 1..12)"),
        ("[" * 3000, "c.yaml: not valid YAML (maximum recursion depth exceeded"),
        ("- a\n", "c.yaml: not a description of a cluster"),
        ("cluster_name: a\n", "c.yaml: provider: expected a section, found None"),
        ("cluster_name: a\nprovider: {type: aws}\nauth: {}\n", "auth.ssh_user: expected a string, found None"),
        ("cluster_name: a\nprovider: {type: aws}\nauth: {ssh_user: -oProxyCommand=x}\n", "auth.ssh_user: expected"),
        ('cluster_name: "\\ud800"\nprovider: {type: aws}\nauth: {ssh_user: a}\n', "cluster_name: expected a string"),
        (
            "cluster_name: a\nprovider: {type: local, head_ip: b, worker_ips: 5}\nauth: {ssh_user: a}\n",
            "provider.worker_ips: expected a list, found 5",
        ),
        (
            "cluster_name: a\nprovider: {type: aws}\nauth: {ssh_user: a}\nhead_start_ray_commands: 5\n",
            "head_start_ray_commands: expected a list, found 5",
        ),
        ("apiVersion: ray.io/v1\nkind: RayJob\n", "kubectl apply -f"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        read_cluster_file(written(tmp_path, text))
    assert message in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.yaml: no such file; --cluster names"):
        read_cluster_file(tmp_path / "none.yaml")


def test_clusters_of_one_name_in_two_places_are_told_apart_and_one_that_grows_is_not(tmp_path: Path) -> None:
    def key(provider: dict[str, object]) -> str:
        settings = {"cluster_name": "simtune", "provider": provider, "auth": {"ssh_user": "me"}}
        return read_cluster_file(written(tmp_path, yaml.safe_dump(settings))).key

    lab: dict[str, object] = {"type": "local", "head_ip": "10.0.0.1", "worker_ips": ["10.0.0.2"]}
    others = [lab | {"head_ip": "10.0.0.9"}, {"type": "aws", "region": "a"}, {"type": "aws", "region": "b"}]
    keys = [key(provider) for provider in (lab, *others)]
    assert len(set(keys)) == len(keys)
    assert key(lab | {"worker_ips": ["10.0.0.2", "10.0.0.3"]}) == keys[0]
