"""What a cluster can run: paths that every machine has, and lists that are sent with the sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from simtune.cluster.package import make_package
from simtune.cluster.portable_sweep import SWEEP_FILE, PortableSweep, make_portable
from simtune.cluster.submission import new_submission
from simtune.config.loading import load_sweep, read_sweep_as_written
from simtune.errors import ConfigError, UserError
from sweeps import tiny_fields


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def portable(changes: dict[str, Any] | None = None, *overrides: str, storage: str | None = None) -> PortableSweep:
    fields = tiny_fields(Path("/mnt/simtune/runs")) | (changes or {})
    Path("tiny.yaml").write_text(yaml.safe_dump(fields))
    sweep, origins = read_sweep_as_written(Path("tiny.yaml"), overrides, storage)
    with origins.in_errors():
        return make_portable(sweep)


def id_of(made: PortableSweep) -> str:
    return new_submission(made, make_package(made.files), (), "").id


def test_the_sent_file_is_the_sweep_with_every_override(tmp_path: Path) -> None:
    made = portable(None, "training.epochs=7", storage="/mnt/other")
    (tmp_path / "sent.yaml").write_bytes(made.files[SWEEP_FILE])
    assert load_sweep(tmp_path / "sent.yaml") == made.sweep
    assert (made.sweep.training.epochs, made.run) == (7, "/mnt/other/tiny")


def test_the_id_names_the_sweep_with_its_storage_and_nothing_else() -> None:
    first = id_of(portable())
    assert first.startswith("tiny-")
    # The same settings, written in another way.
    assert id_of(portable({"model": {**tiny_fields(Path("/x"))["model"]}}, "training.epochs=1")) == first
    assert id_of(portable(None, "training.epochs=2")) != first
    assert id_of(portable(None, storage="s3://bucket/runs")) != first


@pytest.mark.parametrize(
    ("changes", "overrides", "message"),
    [
        ({"storage": "runs"}, [], "storage: 'runs' is relative, so each machine of the cluster would have its own"),
        ({}, ["storage=~/runs"], "--set storage=~/runs: storage: '~/runs' is relative"),
        ({"corpus": {"path": "data/ni"}}, [], "corpus.path: 'data/ni' is a path of this machine"),
        ({}, ["model.name=./t5"], "model.name: './t5' is a path of this machine"),
        ({}, ["embedding.encoder=encoders/mini"], "embedding.encoder: 'encoders/mini' is a path of this machine"),
        ({"grid": {"model.name": ["google-t5/t5-small", "./t5"]}}, [], "grid.model.name: './t5' is a path"),
        ({"grid": {"corpus.path": ["demo", "data/ni"]}}, [], "grid.corpus.path: 'data/ni' is a path"),
        ({}, ["storage=gopher://bucket/runs"], "unknown kind of storage"),
    ],
)
def test_what_only_this_machine_has_is_refused_with_line_and_remedy(
    changes: dict[str, Any], overrides: list[str], message: str, tmp_path: Path
) -> None:
    (tmp_path / "encoders" / "mini").mkdir(parents=True)
    with pytest.raises(ConfigError) as error:
        portable(changes, *overrides)
    assert message in str(error.value)
    assert error.value.exit_code == 2


def test_all_wrong_fields_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        portable({"storage": "runs", "corpus": {"path": "data/ni"}})
    lines = str(error.value).splitlines()
    assert [line.partition(": ")[2].partition(":")[0] for line in lines] == ["storage", "corpus.path"]
    assert all("tiny.yaml, line " in line for line in lines)


def test_a_list_of_tasks_is_sent_and_keeps_its_arms_name(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("task_a\n")
    made = portable({"selection": {"strategies": [{"list": "mine.txt"}], "sizes": [2]}})
    (arm,) = made.sweep.selection.strategies
    assert (arm.name, arm.parameters["file"]) == ("mine", "lists/0/mine.txt")
    assert made.files["lists/0/mine.txt"] == b"task_a\n"
    absolute = portable({"selection": {"strategies": [{"list": str(tmp_path / "mine.txt")}], "sizes": [2]}})
    assert absolute.files["lists/0/mine.txt"] == b"task_a\n"
    on_the_cluster = portable({"selection": {"strategies": [{"list": "/mnt/simtune/mine.txt"}], "sizes": [2]}})
    assert on_the_cluster.sweep.selection.strategies[0].parameters["file"] == "/mnt/simtune/mine.txt"
    before = id_of(made)
    (tmp_path / "mine.txt").write_text("task_b\n")
    assert id_of(portable({"selection": {"strategies": [{"list": "mine.txt"}], "sizes": [2]}})) != before
    (tmp_path / "mine.txt").unlink()
    with pytest.raises(UserError, match=r"mine.txt: no such list of tasks"):
        portable({"selection": {"strategies": [{"list": "mine.txt"}], "sizes": [2]}})


def test_absolute_paths_and_hub_names_stay() -> None:
    made = portable({"corpus": {"path": "/mnt/simtune/ni"}}, "model.name=google-t5/t5-base", "model.tokenizer=/mnt/tok")
    assert (made.sweep.corpus.path, made.sweep.model.name) == ("/mnt/simtune/ni", "google-t5/t5-base")
    assert made.sweep.model.tokenizer == "/mnt/tok"
