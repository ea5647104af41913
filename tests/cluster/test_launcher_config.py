"""Cluster files are refused before anything is created, with the line and the remedy."""

from pathlib import Path

import pytest
import yaml

from simtune.cluster.launcher_config import launcher_config
from simtune.errors import ConfigError
from simtune.ray_token import ensure_token, read_token

ROOT = Path(__file__).resolve().parents[2]
FILES = ["cluster.yaml", "clusters/on-prem.yaml", "clusters/gcp.yaml"]
LOCAL = {
    "cluster_name": "two",
    "provider": {"type": "local", "head_ip": "10.0.0.1", "worker_ips": ["10.0.0.2", "10.0.0.3"]},
}


@pytest.fixture(autouse=True)
def token(tmp_path, monkeypatch):
    """A token in the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").touch(0o600)
    return tmp_path / ".ray/auth_token"


def written(folder: Path, contents: object) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(contents if isinstance(contents, str) else yaml.safe_dump(contents))
    return path


def filled_in(name: str, folder: Path) -> Path:
    """A committed file with everything that a user has to fill in."""
    text = (ROOT / name).read_text()
    text = text.replace("[FILL-IN, FILL-IN]", "[10.0.0.2, 10.0.0.3]")
    text = text.replace("ami-FILL-IN", "ami-0123456789abcdef0").replace("sg-FILL-IN", "sg-0123456789abcdef0")
    return written(folder, text.replace("FILL-IN", "10.0.0.1"))


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("cluster.yaml", ["head.node_config.ImageId", "head.node_config.SecurityGroupIds"]),
        ("clusters/on-prem.yaml", ["provider.head_ip", "provider.worker_ips", "auth.ssh_user"]),
        ("clusters/gcp.yaml", ["provider.project_id", "initializeParams.sourceImage", "serviceAccounts.email"]),
    ],
)
def test_a_file_that_is_not_filled_in_is_refused_with_each_line(name, fields) -> None:
    with pytest.raises(ConfigError) as refused:
        launcher_config(ROOT / name, ROOT)
    *found, last = str(refused.value).splitlines()
    text = (ROOT / name).read_text().splitlines()
    for field in fields:
        (line,) = [line for line in found if f"{field} still has" in line]
        assert "FILL-IN" in text[int(line.split(", line ")[1].split(":")[0]) - 1]
    assert "Nothing has been created" in last


def test_an_image_that_is_not_filled_in_names_the_command_that_finds_it() -> None:
    with pytest.raises(
        ConfigError, match=r"aws ssm get-parameter --region us-west-2 --name /aws/service/deeplearning/"
    ):
        launcher_config(ROOT / "cluster.yaml", ROOT)


@pytest.mark.parametrize("name", FILES)
def test_a_committed_file_that_is_filled_in_reaches_the_launcher_as_it_is_but_for_its_paths(
    name, tmp_path, token
) -> None:
    path = filled_in(name, tmp_path)
    given = launcher_config(path, ROOT)
    assert given | {"file_mounts": None} == yaml.safe_load(path.read_text()) | {"file_mounts": None}
    assert given["file_mounts"]["~/simtune/simtune"] == str(ROOT / "simtune")
    assert given["file_mounts"]["~/.ray/auth_token"] == str(token)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("a: [", "not YAML"),
        ("- a", "not a cluster file"),
        ("", "not a cluster file"),
        ({"kind": "RayJob"}, "not a cluster file"),
        (LOCAL | {"provider": {"type": "local"}}, "needs head_ip, and worker_ips as a list"),
        (LOCAL | {"provider": {"type": "local", "head_ip": "a", "worker_ips": ["b", "a"]}}, "'a' is named twice"),
        (LOCAL | {"file_mounts": ["a"]}, "file_mounts: expected a section"),
    ],
)
def test_what_is_no_cluster_file_is_refused_with_a_reason(contents, message, tmp_path) -> None:
    with pytest.raises(ConfigError, match=message):
        launcher_config(written(tmp_path, contents), ROOT)


def test_a_missing_file_is_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match="no such cluster file"):
        launcher_config(tmp_path / "none.yaml", ROOT)


def test_aliases_that_expand_to_gigabytes_are_looked_at_once(tmp_path) -> None:
    levels = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]
    text = "\n".join(["cluster_name: x", "provider: {type: aws}", *levels])
    assert launcher_config(written(tmp_path, text), ROOT)["cluster_name"] == "x"


def test_paths_start_at_the_working_directory_or_at_the_file(tmp_path) -> None:
    (tmp_path / "clusters").mkdir()
    (tmp_path / "code").mkdir()
    path = written(tmp_path / "clusters", LOCAL | {"file_mounts": {"~/code": "code"}})
    assert launcher_config(path, Path("/"))["file_mounts"] == {"~/code": str(tmp_path / "code")}
    (tmp_path / "code").rmdir()
    with pytest.raises(ConfigError, match="file_mounts: '/code' is not there; run the command in the repository"):
        launcher_config(path, Path("/"))


def test_from_any_folder_the_machines_get_the_checkout_of_this_simtune(tmp_path) -> None:
    path = filled_in("cluster.yaml", tmp_path)
    assert launcher_config(path, tmp_path)["file_mounts"]["~/simtune/simtune"] == str(ROOT / "simtune")


@pytest.mark.parametrize("name", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"])
def test_the_machines_get_the_token_that_this_computer_uses(name, tmp_path, token, monkeypatch) -> None:
    token.unlink()
    monkeypatch.setenv(name, "t" * 64 if name == "RAY_AUTH_TOKEN" else str(tmp_path / "elsewhere"))
    ensure_token()
    sent = Path(launcher_config(filled_in("cluster.yaml", tmp_path), ROOT)["file_mounts"]["~/.ray/auth_token"])
    assert sent != token
    assert (sent.read_text(), sent.stat().st_mode & 0o777) == (read_token(), 0o600)
