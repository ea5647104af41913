"""What a host tries before a cluster trains, and how long it may take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from simtune import hub
from simtune.errors import RunError
from simtune.executors.hosts import host_checks
from simtune.executors.hosts.host_checks import check_host, run_checks
from simtune.storage.files import as_path
from simtune.storage.preflight import driver_probes, hosts_seen

_HOST = """
import json, sys
from simtune.executors.hosts.host_checks import check_host
print(json.dumps(check_host(sys.argv[1:], [], [], "h2")))
"""


def test_a_check_that_never_returns_is_named_and_the_others_are_reported() -> None:
    def fails() -> str:
        raise RunError("/runs: cannot be written; give another")

    def crashes() -> str:
        raise KeyError("no\nhome")

    release = threading.Event()
    checks = {
        ("storage", ""): lambda: str(release.wait(60)),
        ("encoder", "a"): lambda: "outline",
        ("model", "b"): fails,
        ("model", "c"): crashes,
    }
    started = time.monotonic()
    found, problems = run_checks(checks, limit_s=0.3)
    assert time.monotonic() - started < 10
    release.set()
    assert found == {("encoder", "a"): "outline"}
    assert problems["storage", ""].startswith("storage: no answer within 0.3 s; check")
    assert problems["model", "b"] == "/runs: cannot be written; give another"
    assert problems["model", "c"] == "KeyError: 'no\\nhome'"


def test_a_host_with_storage_encoder_and_model_passes(tmp_path: Path) -> None:
    encoder, model = encoder_folder(tmp_path), model_folder(tmp_path)
    with driver_probes(tmp_path / "runs") as probes:
        needs = ([str(probe) for probe in probes], [(str(encoder), None)], [(str(model), None)])
        found, problems = check_host(*needs, "h1")
        assert problems == {}
        assert hosts_seen(probes) == {"h1"}
    assert {(subject, *names) for subject, names in found.items()} == {
        ("storage", ""),
        ("encoder", str(encoder)),
        ("model", str(model)),
    }
    assert list((tmp_path / "runs").iterdir()) == []


def test_what_a_host_lacks_is_named_with_its_remedy(tmp_path: Path) -> None:
    missing = [(str(tmp_path / "nowhere"), None)]
    found, problems = check_host([str(tmp_path / "runs" / ".probe-1")], missing, missing, "h1")
    assert found == {}
    storage, encoder, model = (text for of_subject in problems.values() for text in of_subject.values())
    assert storage.startswith(
        f"{tmp_path}/runs: the driver's files are not there, so this is a different storage. Mount one"
    )
    assert encoder.startswith(f"embedding.encoder: {tmp_path}/nowhere: there is no such folder. Put it where every")
    assert model.startswith(f"model.name: {tmp_path}/nowhere: there is no such folder. Put it where every host sees it")
    # A folder of this name on one host alone would hide what is wrong.
    assert not (tmp_path / "runs").exists()


def test_files_that_differ_have_different_outlines(tmp_path: Path) -> None:
    encoder, model = encoder_folder(tmp_path), model_folder(tmp_path)

    def outlines() -> list[str]:
        found, problems = check_host([], [(str(encoder), None)], [(str(model), None)], "h1")
        assert problems == {}
        return [outline for of_subject in found.values() for outline in of_subject.values()]

    first = outlines()
    (encoder / "model.safetensors").write_bytes(bytes(9))
    (model / "config.json").write_text('{"model_type": "t5", "d_model": 9}')
    (model / "README.md").write_text("without effect")
    assert not set(first) & set(outlines())
    (encoder / "model.safetensors").write_bytes(bytes(8))
    (model / "config.json").write_text('{"model_type": "t5", "d_model": 8}')
    assert outlines() == first


def test_each_revision_of_a_model_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    def outline(name: str, revision: str | None) -> str:
        if revision == "v1":
            raise RunError(f"{name} at {revision} is not there")
        return str(revision)

    monkeypatch.setattr(host_checks, "outline_of_model", outline)
    found, problems = check_host([], [], [("t5", None), ("t5", "v1"), ("t5", "v2")], "h1")
    assert found == {"model": {"t5": "None", "t5 at v2": "v2"}}
    assert problems == {"model": {"t5 at v1": "t5 at v1 is not there"}}


@pytest.mark.parametrize("index", [True, False])
def test_a_model_of_which_a_part_is_in_the_cache_is_still_to_be_downloaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, index: bool
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(hub, "cached_snapshot", lambda *of: tmp_path)
    monkeypatch.setattr(hub, "ask_hub", lambda name, revision: asked.append(name))
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    (tmp_path / names[0]).write_bytes(bytes(8))
    if index:
        text = json.dumps({"weight_map": dict(zip("ab", names, strict=True))})
        (tmp_path / "model.safetensors.index.json").write_text(text)
    model = [("someone/t5", "abc")]
    assert check_host([], [], model, "h1") == ({"model": {"someone/t5 at abc": ""}}, {})
    assert asked == ["someone/t5"]
    (tmp_path / names[1]).write_bytes(bytes(8))
    found, problems = check_host([], [], model, "h1")
    assert problems == {}
    assert names[1] in found["model"]["someone/t5 at abc"]
    assert asked == ["someone/t5"]


def test_a_folder_that_is_removed_while_a_storage_is_listed_is_no_other_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".probe-of-another-driver").mkdir()
    real = Path.is_dir

    def removed_after(path: Path) -> bool:
        found = real(path)
        if found and path.name.startswith(".probe-of-another"):
            path.rmdir()
        return found

    monkeypatch.setattr(Path, "is_dir", removed_after)
    with driver_probes(tmp_path) as probes:
        assert [probe.parent for probe in probes] == [tmp_path]


@pytest.mark.parametrize("removed", [("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), ("AWS_ENDPOINT_URL",)])
def test_an_object_store_that_a_host_cannot_use_is_one_line(
    s3_storage: str, tmp_path: Path, removed: tuple[str, ...]
) -> None:
    with driver_probes(as_path(s3_storage)) as probes:
        assert check_host([str(probe) for probe in probes], [], [], "h1") == ({"storage": {"": ""}}, {})
        assert hosts_seen(probes) == {"h1"}
        # As on a host that has neither the driver's environment nor a role.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(removed)}
        environment |= {name: str(tmp_path / "none") for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")}
        environment.setdefault("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        command = [sys.executable, "-c", _HOST, *map(str, probes)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found, problems = json.loads(done.stdout)
    assert found == {}
    reason = {
        "AWS_ACCESS_KEY_ID": "refused (no credentials found)",
        "AWS_ENDPOINT_URL": "the store does not answer (http://127.0.0.1:1: Connection refused)",
    }[removed[0]]
    assert problems["storage"][""].startswith(f"{s3_storage}: {reason}")
    assert "credentials of their own host, never the driver's: give the host a role" in problems["storage"][""]
    assert "\n" not in problems["storage"][""]


def encoder_folder(root: Path) -> Path:
    folder = root / "encoder"
    folder.mkdir()
    (folder / "modules.json").write_text("[]")
    (folder / "model.safetensors").write_bytes(bytes(8))
    return folder


def model_folder(root: Path) -> Path:
    folder = root / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "t5", "d_model": 8}')
    (folder / "model.safetensors").write_bytes(bytes(8))
    return folder
