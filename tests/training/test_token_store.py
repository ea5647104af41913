"""Tokenised tasks on disk: intact ones are read back, and damaged ones are tokenised again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simtune.training.examples import AnswerChoices, Ragged, TokenisedTasks
from simtune.training.token_store import stored

DATA = TokenisedTasks(
    names=("a", "b"),
    task_offsets=np.array([0, 1, 3]),
    sources=Ragged.from_rows([[5, 1], [6, 7, 1], [1]]),
    references=Ragged.from_rows([[8, 1], [9, 1], [1], [3, 4, 1]]),
    reference_offsets=np.array([0, 2, 3, 4]),
    num_cut=1,
    num_left_out=2,
)


def rows(data: TokenisedTasks) -> list[object]:
    parts = (data.task_offsets, data.sources.ids, data.sources.offsets, data.references.ids, data.references.offsets)
    return [data.names, data.num_cut, data.num_left_out, *(part.tolist() for part in (*parts, data.reference_offsets))]


def never() -> TokenisedTasks:
    raise AssertionError("tokenised again")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(np.array([6, 7, 1], dtype=np.int32).tobytes())] ^= 8
    path.write_bytes(data)


def test_tokens_are_read_back_and_open_as_a_dataset(tmp_path: Path) -> None:
    from datasets import load_from_disk

    stored(tmp_path / "kept", lambda: DATA)
    assert rows(stored(tmp_path / "kept", never)) == rows(DATA)
    assert load_from_disk(str(tmp_path / "kept"))[1] == {"task": "b", "source": [6, 7, 1], "references": [[1]]}
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_answer_choices_come_back_and_damage_to_them_is_found(tmp_path: Path) -> None:
    choices = AnswerChoices(("no", "", "no"), Ragged.from_rows([[7, 1], [1], [7, 1]]), np.array([0, 2, 2, 3]))
    stored(tmp_path / "kept", lambda: replace(DATA, choices=choices))
    found = stored(tmp_path / "kept", never).choices
    assert found is not None
    assert found.texts == choices.texts
    assert [found.texts_of(example) for example in range(3)] == [("no", ""), (), ("no",)]
    assert [[ids.tolist() for ids in found.ids_of(example)] for example in range(3)] == [[[7, 1], [1]], [], [[7, 1]]]
    assert (found.ids.ids.dtype, found.offsets.dtype) == (np.int32, np.int64)
    (arrow,) = (tmp_path / "kept").glob("*.arrow")
    data = arrow.read_bytes()
    assert data.count(b"nono") == 1
    arrow.write_bytes(data.replace(b"nono", b"noxo"))
    again = stored(tmp_path / "kept", lambda: DATA)
    assert again.choices is None


def test_tokens_of_another_key_or_with_a_changed_count_are_not_used(tmp_path: Path) -> None:
    stored(tmp_path / "other", lambda: DATA)
    (tmp_path / "other").rename(tmp_path / "kept")
    mine = replace(DATA, names=("c", "d"))
    assert rows(stored(tmp_path / "kept", lambda: mine)) == rows(mine)
    facts = tmp_path / "kept" / "simtune.json"
    facts.write_bytes(facts.read_bytes().replace(b'"num_cut": 1', b'"num_cut": 9'))
    assert rows(stored(tmp_path / "kept", lambda: mine)) == rows(mine)


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
def test_damage_is_found_and_made_again(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    stored(tmp_path / "kept", lambda: DATA)
    (arrow,) = (tmp_path / "kept").glob("*.arrow")
    damage(arrow)
    made: list[int] = []
    again = stored(tmp_path / "kept", lambda: made.append(1) or DATA)
    assert (rows(again), made) == (rows(DATA), [1])
    assert rows(stored(tmp_path / "kept", never)) == rows(DATA)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not list a process's maps")
def test_token_ids_are_memory_mapped_from_the_file(tmp_path: Path) -> None:
    import pyarrow as pa

    # More rows than the library writes into one record batch.
    many = TokenisedTasks(
        names=("a",),
        task_offsets=np.array([0, 2500]),
        sources=Ragged.from_rows([[5, 1]] * 2500),
        references=Ragged.from_rows([[8, 1]] * 2500),
        reference_offsets=np.arange(2501),
        num_cut=0,
        num_left_out=0,
    )
    stored(tmp_path / "kept", lambda: many)
    before = pa.total_allocated_bytes()
    data = stored(tmp_path / "kept", never)
    (mapped,) = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path / "kept") in line]
    begin, end = (int(address, 16) for address in mapped.split()[0].split("-"))
    for ids in (data.sources.ids, data.references.ids, data.sources.offsets):
        assert begin <= ids.ctypes.data < end
        assert not ids.flags.writeable
    assert pa.total_allocated_bytes() - before < 4096


def test_two_processes_that_tokenise_at_once_both_continue_with_their_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other's folder gets its name between this one's look and its rename."""
    real: Callable[..., Path] = Path.rename

    def later(path: Path, target: Path) -> Path:
        monkeypatch.undo()
        stored(tmp_path / "kept", lambda: DATA)
        return real(path, target)

    monkeypatch.setattr(Path, "rename", later)
    assert rows(stored(tmp_path / "kept", lambda: DATA)) == rows(DATA)
    assert rows(stored(tmp_path / "kept", never)) == rows(DATA)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
