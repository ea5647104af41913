"""Which folders count as complete, by their marker and the bytes of their files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simtune.storage.checksummed import checksummed_json
from simtune.storage.complete_folder import MARKER, Marker, checksums_of, files_match, read_marker, write_marker
from simtune.storage.files import json_text


class StepMarker(Marker):
    step: int


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "weights").write_bytes(b"weights")
    (tmp_path / "settings").write_bytes(b"settings")
    write_marker(tmp_path, StepMarker(files=checksums_of(tmp_path), step=3))
    return tmp_path


def test_a_folder_counts_while_every_byte_of_its_files_is_what_was_written(folder: Path) -> None:
    marker = read_marker(folder, StepMarker)
    assert marker is not None
    assert (marker.step, list(marker.files)) == (3, ["inner/weights", "settings"])
    assert files_match(folder, marker.files)
    (folder / "inner" / "weights").write_bytes(b"weightS")
    assert not files_match(folder, marker.files)
    (folder / "inner" / "weights").unlink()
    assert not files_match(folder, marker.files)


@pytest.mark.parametrize(
    "change",
    [
        *({"version": 2}, {"more": 1}, {"step": "3"}, {"step": None}, {"files": ["settings"]}),
        *({"files": {"settings": "0"}}, {"files": {"../settings": "0" * 64}}, {"files": {"/settings": "0" * 64}}),
    ],
)
def test_a_marker_with_other_fields_or_of_files_elsewhere_does_not_count(
    folder: Path, change: dict[str, object]
) -> None:
    fields = json.loads((folder / MARKER).read_bytes())
    del fields["sha256"]
    (folder / MARKER).write_bytes(checksummed_json(json_text(fields)))
    assert read_marker(folder, StepMarker) is not None
    (folder / MARKER).write_bytes(checksummed_json(json_text(fields | change)))
    assert read_marker(folder, StepMarker) is None


def test_a_folder_without_a_marker_or_with_a_damaged_one_does_not_count(folder: Path) -> None:
    data = (folder / MARKER).read_bytes()
    (folder / MARKER).write_bytes(data.replace(b'"step": 3', b'"step": 4'))
    assert read_marker(folder, StepMarker) is None
    (folder / MARKER).unlink()
    assert read_marker(folder, StepMarker) is None
