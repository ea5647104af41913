"""The committed cluster files against Ray's own schema and against what must hold for safety; asks no network."""

import copy
import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
LAUNCHED = ["cluster.yaml", "clusters/on-prem.yaml", "clusters/gcp.yaml"]
TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in [ROOT / "cluster.yaml", *ROOT.glob("clusters/*")]}
FILES = {name: yaml.safe_load(text) for name, text in TEXTS.items()}
CLUSTER = FILES["cluster.yaml"]


def setup_commands(name: str, role: str) -> list[str]:
    return [*FILES[name]["setup_commands"], *FILES[name].get(f"{role}_setup_commands", [])]


def prepared(name: str) -> dict:
    """The file as `ray up` sees it: with the provider's defaults merged in."""
    from ray.autoscaler._private.util import prepare_config

    return prepare_config(copy.deepcopy(FILES[name]))


@pytest.mark.parametrize("name", LAUNCHED)
def test_rays_schema_accepts_it(name) -> None:
    from ray.autoscaler._private.util import validate_config

    validate_config(prepared(name))


def test_rays_schema_would_refuse_a_mistake() -> None:
    import jsonschema
    from ray.autoscaler._private.util import validate_config

    with pytest.raises(jsonschema.ValidationError, match="setup_comands"):
        validate_config(prepared("cluster.yaml") | {"setup_comands": []})


@pytest.mark.parametrize("name", LAUNCHED)
def test_rays_defaults_stay_overridden(name) -> None:
    config = prepared(name)
    assert set(config["available_node_types"]) == set(FILES[name].get("available_node_types", ["local.cluster.node"]))
    commands = "\n".join(config["head_setup_commands"] + config["worker_setup_commands"])
    assert "https://" not in commands
    assert "anaconda" not in commands
    assert config["docker"] == {}


def test_the_bill_is_bounded_and_nothing_runs_unasked() -> None:
    for name in ("cluster.yaml", "clusters/gcp.yaml"):
        head, gpu = (FILES[name]["available_node_types"][kind] for kind in ("head", "gpu"))
        assert (head["min_workers"], head["max_workers"], gpu["min_workers"]) == (0, 0, 0)
        assert gpu["max_workers"] == FILES[name]["max_workers"] > 0
        assert FILES[name]["provider"]["cache_stopped_nodes"] is False


@pytest.mark.parametrize("name", LAUNCHED)
@pytest.mark.parametrize("role", ["head", "worker"])
def test_every_machine_starts_ray_from_the_venv_closed_and_with_the_token(name, role) -> None:
    stop, start = FILES[name][f"{role}_start_ray_commands"]
    assert ("simtune cluster supervise --background -- ray start" in start) == (role == "head")
    for command in (stop, start):
        assert command.startswith("source ~/simtune-env/bin/activate && ")
        assert "\n" not in command
    assert stop.endswith("ray stop")
    # A token; no module from the working directory; logs that only this user reads; the ports that nobody needs.
    hook = "RAY_START_HOOK=simtune.executors.ray_start_hook.prepare_host"
    for setting in ("export RAY_AUTH_MODE=token", "PYTHONSAFEPATH=1", "unset PYTHONPATH", "umask 077", hook):
        assert start.index(setting) < start.index("ray start")
    assert "chmod 600 ~/.ray/auth_token" in setup_commands(name, role)[0]
    assert FILES[name]["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"  # noqa: S105 a path
    if role == "head":
        assert "--dashboard-host=127.0.0.1" in start


@pytest.mark.parametrize("name", LAUNCHED)
@pytest.mark.parametrize("role", ["head", "worker"])
def test_set_up_checks_python_first_and_driver_and_torch_once_installed(name, role) -> None:
    commands = setup_commands(name, role)
    (venv,) = [number for number, command in enumerate(commands) if "python3 -m venv" in command]
    (install,) = [number for number, command in enumerate(commands) if "uv pip install" in command]
    (check,) = [number for number, command in enumerate(commands) if "machine_check" in command]
    assert venv < install < check
    assert "sys.version_info < (3, 11)" in commands[venv]
    # The build of torch for the machine: a head without a GPU gets no CUDA. Later machines get what the head has.
    assert "--torch-backend=auto" in commands[install]
    assert "simtune-versions.txt" in commands[install]
    assert commands[check].endswith("~/simtune-versions.txt")
    assert FILES[name]["cluster_synced_files"] == ["~/simtune-versions.txt"]


def test_the_check_of_python_passes_here_and_names_what_an_old_one_has(tmp_path) -> None:
    import subprocess
    import sys

    (command,) = [command for command in CLUSTER["setup_commands"] if "python3 -m venv" in command]
    script = re.search(r"python3 -c '(.*?)'", command)[1]
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    old = script.replace("(3, 11)", "(4, 0)")
    done = subprocess.run([sys.executable, "-c", old], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("simtune needs Python 3.11 or newer, and this image has 3.")


@pytest.mark.parametrize("name", LAUNCHED)
def test_the_machines_get_what_pip_needs_and_neither_data_nor_runs(name) -> None:
    mounts = FILES[name]["file_mounts"]
    sent = {Path(local) for local in mounts.values() if not local.startswith("~")}
    for local in sent:
        assert len(local.parts) == 1
        assert (ROOT / local).exists()
    assert not sent & {Path(), Path("data"), Path("runs")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {"simtune", "pyproject.toml", "constraints.txt", project["readme"], *project["license-files"]}
    assert needed <= {str(local) for local in sent}
    assert all(mounts[f"~/simtune/{local}"] == local for local in needed)


@pytest.mark.parametrize("name", TEXTS)
def test_no_secret_no_home_of_anyone_and_no_host_is_in_it(name) -> None:
    text = TEXTS[name]
    assert not re.search(r"AKIA|aws_secret|BEGIN [A-Z ]*PRIVATE KEY|[0-9a-f]{64}", text)
    assert not re.search(r"/(home|Users|root|work)/", text)
    # A scope of Google's is named by a URL.
    assert not re.search(r"https?://|index-url", text.replace("https://www.googleapis.com/auth/cloud-platform", ""))
    assert not re.search(r"ami-[0-9a-f]{8,}", text)
    assert name == "clusters/kuberay.yaml" or "0.0.0.0" not in text  # noqa: S104 binds nothing


def test_spot_is_one_commented_line() -> None:
    text = TEXTS["cluster.yaml"].replace("# InstanceMarketOptions", "InstanceMarketOptions")
    spot = yaml.safe_load(text)["available_node_types"]["gpu"]["node_config"]
    assert spot.pop("InstanceMarketOptions") == {"MarketType": "spot"}
    assert spot == CLUSTER["available_node_types"]["gpu"]["node_config"]


def unknown_fields(value: object, fields: dict, path: str = "") -> list[str]:
    """What of a RayJob is not among the published fields; below a field without known fields, anything may be."""
    if isinstance(value, list):
        return [found for entry in value for found in unknown_fields(entry, fields, path)]
    if not isinstance(value, dict) or path not in fields:
        return []
    unknown = [f"{path}.{name}" for name in value if name not in fields[path]["fields"]]
    missing = [f"{path}.{name} is missing" for name in fields[path]["required"] if name not in value]
    below = [found for name, entry in value.items() for found in unknown_fields(entry, fields, f"{path}.{name}")]
    return unknown + missing + below


def test_the_rayjob_has_published_fields_only() -> None:
    fields = json.loads((Path(__file__).parent / "kuberay_fields.json").read_text())["fields"]
    job = FILES["clusters/kuberay.yaml"]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert unknown_fields(job["spec"], fields, "spec") == []
    wrong = copy.deepcopy(job["spec"])
    wrong["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplica"] = wrong["rayClusterSpec"]["workerGroupSpecs"][0].pop(
        "maxReplicas"
    )
    path = "spec.rayClusterSpec.workerGroupSpecs"
    assert unknown_fields(wrong, fields, "spec") == [f"{path}.maxReplica", f"{path}.maxReplicas is missing"]


def test_the_rayjob_is_closed_and_bounded() -> None:
    cluster = FILES["clusters/kuberay.yaml"]["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    head, worker = cluster["headGroupSpec"], cluster["workerGroupSpecs"][0]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert (worker["minReplicas"], worker["replicas"]) == (0, 0)
    for group in (head, worker):
        (container,) = group["template"]["spec"]["containers"]
        assert {"name": "RAY_START_HOOK", "value": "simtune.executors.ray_start_hook.prepare_host"} in container["env"]
        assert group["template"]["spec"]["serviceAccountName"] == "simtune"
