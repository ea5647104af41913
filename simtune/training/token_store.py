"""Tokenised tasks on disk as a Hugging Face dataset: tokenised once, then read by every later run of a storage.

A dataset is a folder of arrow files, so other tools can open it (`datasets.load_from_disk`). It counts only together
with its checksum, which is written last: an incomplete or damaged folder is replaced.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from simtune.errors import RunError
from simtune.storage.files import disk_full_named, remove_tree
from simtune.storage.new_files import new_folder
from simtune.storage.records import Record, read_record, write_record
from simtune.training.examples import AnswerChoices, Ragged, TokenisedTasks

if TYPE_CHECKING:
    import pyarrow as pa

_CHECKSUM = "simtune.json"


class _Facts(Record):
    """The record that makes a folder count.

    Attributes:
        key: names what was tokenised and how; the folder's name.
        data: SHA-256 (hex) of the tokenised tasks.
    """

    version: Literal[1] = 1
    key: str
    data: str
    num_cut: int
    num_left_out: int


def stored(folder: Path, tokenise: Callable[[], TokenisedTasks]) -> TokenisedTasks:
    """The tokenised tasks in `folder`; if there are none, those that `tokenise` returns, which are saved there."""
    found = _load(folder)
    if found is not None:
        return found
    made = tokenise()
    if len(made.sources):
        _save(made, folder)
    return made


def to_table(data: TokenisedTasks) -> pa.Table:
    """One row per example: task, source (ids), references (lists of ids); with choices also their texts and ids."""
    import pyarrow as pa

    counts = np.diff(data.task_offsets)
    columns = {
        "task": np.repeat(np.array(data.names, dtype=object), counts),
        "source": _lists(data.sources),
        "references": pa.LargeListArray.from_arrays(pa.array(data.reference_offsets), _lists(data.references)),
    }
    if (choices := data.choices) is not None:
        offsets = pa.array(choices.offsets)
        columns["choices"] = pa.LargeListArray.from_arrays(offsets, pa.array(choices.texts, pa.string()))
        columns["choice_ids"] = pa.LargeListArray.from_arrays(offsets, _lists(choices.ids))
    if data.templates is not None:
        columns["templates"] = np.repeat(data.templates, counts)
    return pa.table(columns)


def from_table(table: pa.Table, num_cut: int, num_left_out: int) -> TokenisedTasks:
    """The inverse of `to_table`."""
    table = table.combine_chunks()
    tasks = table["task"].to_pylist()
    starts = [row for row, task in enumerate(tasks) if row == 0 or tasks[row - 1] != task]
    references = table["references"].chunk(0)
    return TokenisedTasks(
        names=tuple(tasks[row] for row in starts),
        task_offsets=np.array([*starts, len(tasks)], dtype=np.int64),
        sources=_ragged(table["source"].chunk(0)),
        references=_ragged(references.values),
        reference_offsets=references.offsets.to_numpy().astype(np.int64, copy=False),
        num_cut=num_cut,
        num_left_out=num_left_out,
        choices=_choices(table) if "choices" in table.column_names else None,
        templates=table["templates"].to_numpy()[starts] if "templates" in table.column_names else None,
    )


def _choices(table: pa.Table) -> AnswerChoices:
    texts, ids = table["choices"].chunk(0), table["choice_ids"].chunk(0)
    offsets = ids.offsets.to_numpy().astype(np.int64, copy=False)
    return AnswerChoices(tuple(texts.values.to_pylist()), _ragged(ids.values), offsets)


def _save(data: TokenisedTasks, folder: Path) -> None:
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    with disk_full_named(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(folder) as temporary:
            Dataset(to_table(data)).save_to_disk(str(temporary), num_shards=1)
            _in_one_batch(temporary)
            facts = _Facts(key=folder.name, data=_sha256(data), num_cut=data.num_cut, num_left_out=data.num_left_out)
            write_record(temporary / _CHECKSUM, facts)
            remove_tree(folder)
            try:
                temporary.rename(folder)
            except OSError as error:
                # Another driver has just written the same tokens.
                if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                    raise


def _in_one_batch(folder: Path) -> None:
    """Rewrites a dataset's arrow file as a single record batch, so that columns can be read without a copy."""
    import pyarrow as pa

    (path,) = folder.glob("*.arrow")
    whole = path.with_suffix(".whole")
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_stream(source).read_all().combine_chunks()
        with pa.OSFile(str(whole), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    whole.replace(path)


def _load(folder: Path) -> TokenisedTasks | None:
    try:
        facts = read_record(folder / _CHECKSUM, _Facts)
    except (RunError, FileNotFoundError):
        return None
    if facts.key != folder.name:
        return None
    from datasets import load_from_disk

    try:
        data = from_table(load_from_disk(str(folder)).data.table, facts.num_cut, facts.num_left_out)
        sound = facts.data == _sha256(data)
    except (RunError, OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        # Whatever a damaged folder raises, the remedy is the same: tokenise again.
        return None
    return data if sound else None


def _sha256(data: TokenisedTasks) -> str:
    digest = hashlib.sha256("\n".join(data.names).encode())
    arrays = (data.task_offsets, data.sources.ids, data.sources.offsets)
    for array in (*arrays, data.references.ids, data.references.offsets, data.reference_offsets):
        digest.update(np.ascontiguousarray(array).tobytes())
    if data.templates is not None:
        digest.update(np.ascontiguousarray(data.templates).tobytes())
    if (choices := data.choices) is not None:
        digest.update("\0".join(choices.texts).encode())
        for array in (choices.ids.ids, choices.ids.offsets, choices.offsets):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _lists(rows: Ragged) -> pa.LargeListArray:
    import pyarrow as pa

    return pa.LargeListArray.from_arrays(pa.array(rows.offsets), pa.array(rows.ids))


def _ragged(lists: pa.LargeListArray) -> Ragged:
    # Views of the file's pages where the types match, as in every file that simtune wrote.
    ids, offsets = lists.values.to_numpy(), lists.offsets.to_numpy()
    return Ragged(ids.astype(np.int32, copy=False), offsets.astype(np.int64, copy=False))
