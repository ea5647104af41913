"""Which files of a folder count: all but those without effect, and whatever a JSON file among them names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simtune.storage.folder_content import content_of

NAMES = [".old/tokenizer.4.json", "README.safetensors", "onnx/weights.txt"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "naming",
    [lambda name: {"file": name}, lambda name: {"files": [{"first": f"./{name}"}]}, lambda name: [name, "no\0path"]],
)
def test_a_named_file_counts_wherever_it_lies(tmp_path: Path, name: str, naming) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("one")
    assert content_of(tmp_path) == {}
    (tmp_path / "config.json").write_text(json.dumps(naming(name)))
    before = content_of(tmp_path)
    assert set(before) == {"config.json", name}
    (tmp_path / name).write_text("two")
    assert content_of(tmp_path) != before


def test_names_are_followed_from_file_to_file_and_never_out_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "part/.hidden").mkdir(parents=True)
    (tmp_path / "outside.txt").write_text("one")
    (folder / "part/config.json").write_text('["../.second.json", "../../outside.txt", "/etc/hostname", "config.json"]')
    (folder / ".second.json").write_text('["part/.hidden/third.json"]')
    (folder / "part/.hidden/third.json").write_text("[" * 100_000)
    assert set(content_of(folder)) == {"part/config.json", ".second.json", "part/.hidden/third.json"}


def test_a_link_counts_by_what_it_leads_to(tmp_path: Path) -> None:
    folder, target = tmp_path / "model", tmp_path / ("e" * 64)
    folder.mkdir()
    (folder / "model.safetensors").symlink_to(target)
    target.write_text("one")
    before = content_of(folder)
    target.write_text("two")
    assert content_of(folder) != before
