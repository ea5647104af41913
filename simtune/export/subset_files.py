"""A subset's instances as files that other trainers can read.

The tasks come from the run's `subsets.parquet`, their instances from the corpus, read and drawn with the run's own
settings. The folder appears complete under its name, or not at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from simtune import __version__
from simtune.corpus.pool import TaskSets, build_task_sets, task_fingerprint
from simtune.corpus.task import Task
from simtune.errors import CorpusError, UserError
from simtune.inspection.find_subset import ChosenSubset, find_subset
from simtune.progress import Display
from simtune.prompting.registry import make_renderer, resolve_encoding
from simtune.prompting.renderer import Renderer
from simtune.storage.file_types import has_file
from simtune.storage.files import AnyPath, file_sha256, write_text
from simtune.storage.new_files import new_folder
from simtune.storage.output_path import check_folder, check_writable, unwritable_named
from simtune.storage.records import Record, Sha256, write_record
from simtune.sweep.run_files import MANIFEST, read_manifest
from simtune.trial.files import MODEL, read_identity
from simtune.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa

_SOURCES_AND_TARGETS, _CHATS = "seq2seq.jsonl", "chat.jsonl"
_COLUMNS = ("task", "category", "id", "definition", "input", "outputs", "source", "target")
# `str.splitlines` ends a line at these too; JSON allows them unescaped.
_LINE_ENDS = {ord(mark): f"\\u{ord(mark):04x}" for mark in "\x85\u2028\u2029"}


class ExportRecord(Record):
    """The content of `export.json`: what was exported, and with which settings.

    Attributes:
        simtune: its version.
        size: as the run requested; `num_tasks` is less where the pool was smaller.
        grid: the swept values that decide the export; empty without a grid.
        files: SHA-256 of the files beside it.
    """

    version: Literal[1] = 1
    simtune: str
    run: str
    arm: str
    size: int
    seed: int
    grid: str
    num_tasks: int
    num_instances: int
    encoding: dict[str, Any]
    corpus: dict[str, Any]
    files: dict[str, Sha256]


def export_subset(
    run_directory: AnyPath,
    arm: str,
    size: int | None,
    seed: int | None,
    output: Path,
    display: Display,
    grid: str | None = None,
) -> ExportRecord:
    """Writes the instances of one subset of a run to a new folder.

    Args:
        run_directory: of a sweep that has chosen its subsets.
        arm: its name in tables.
        size: None if the arm has only one.
        seed: None takes the first.
        output: a folder that does not exist or is empty.
        display: shows progress and warnings.
        grid: a point of the sweep's grid, as errors and `subsets.parquet` write it; None if all agree.

    Returns:
        The content of its `export.json`.

    Raises:
        UserError: the arguments do not name one subset, a chosen task is not in the pool, or the folder is not empty or
            cannot be written.
    """
    output = output.absolute()
    check_folder(output)
    check_writable(output)
    with unwritable_named(output):
        _refuse_used_folder(output)
    chosen = find_subset(run_directory, arm, size, seed, grid)
    with display.stage("read tasks") as on_progress:
        policy = chosen.sweep.leakage.policy
        sets = build_task_sets(chosen.sweep.corpus, chosen.sweep.evaluation, on_progress, policy)
    tasks = _tasks_of(chosen, sets)
    _warn_of_change(run_directory, tasks, display)
    with display.stage("write tasks") as on_progress, unwritable_named(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(output) as folder:
            record = _write(chosen, tasks, folder, on_progress)
            folder.rename(output)
    return record


def _tasks_of(chosen: ChosenSubset, sets: TaskSets) -> list[Task]:
    """The chosen tasks in the pool's order, which is the order of a trial's examples before they are shuffled."""
    names = {task.name for task in sets.pool}
    missing = [name for name in chosen.tasks if name not in names]
    if missing:
        reasons = {record.task: record.reason or "held out" for record in sets.records}
        more = f" (and {counted(len(missing) - 1, 'more task')})" if len(missing) > 1 else ""
        raise CorpusError(
            f"{missing[0]}: chosen by arm {chosen.arm!r}, but no longer in the pool of {chosen.sweep.corpus.path}: "
            f"{reasons.get(missing[0], 'not a train task')}{more}. Restore the task, or choose again with "
            "`simtune select`"
        )
    wanted = set(chosen.tasks)
    return [task for task in sets.pool if task.name in wanted]


def _warn_of_change(run_directory: AnyPath, tasks: Sequence[Task], display: Display) -> None:
    """Warns if a trial of this run has trained on these tasks with other texts than they have now."""
    manifest = run_directory / MANIFEST
    trials = read_manifest(run_directory).trials if has_file(manifest) else {}
    identities = [read_identity(run_directory.parent / "trials" / trial / MODEL) for trial in trials]
    trained = [identity["train_tasks"] for identity in identities if identity and "train_tasks" in identity]
    now = {task.name: task_fingerprint(task) for task in tasks}
    same_names = [then for then in trained if then.keys() == now.keys()]
    if same_names and now not in same_names:
        changed = sorted(name for name in now if now[name] != same_names[-1][name])
        display.warn(
            f"{changed[0]}: changed since the run trained on it ({len(changed)} of {counted(len(now), 'task')} did), "
            "in the corpus or in the instances drawn; the export has the tasks as they are now"
        )


def _write(
    chosen: ChosenSubset, tasks: Sequence[Task], folder: Path, on_progress: Callable[[int, int], None]
) -> ExportRecord:
    """Writes all files of an export to `folder`, which is renamed when it is complete."""
    from datasets import Dataset, disable_progress_bars

    encoding = resolve_encoding(chosen.sweep.encoding)
    table = _write_lines(make_renderer(encoding), tasks, folder, on_progress)
    write_text(folder / "train_tasks.txt", "".join(f"{name}\n" for name in chosen.tasks))
    sha256 = {name: file_sha256(folder / name) for name in (_SOURCES_AND_TARGETS, _CHATS, "train_tasks.txt")}
    disable_progress_bars()
    Dataset(table).save_to_disk(str(folder / "dataset"))
    record = ExportRecord(
        simtune=__version__,
        run=chosen.sweep.name,
        arm=chosen.arm,
        size=chosen.size,
        seed=chosen.seed,
        grid=chosen.grid,
        num_tasks=len(tasks),
        num_instances=table.num_rows,
        encoding=encoding.model_dump(mode="json"),
        corpus=chosen.sweep.corpus.model_dump(mode="json"),
        files=sha256,
    )
    write_record(folder / "export.json", record)
    on_progress(len(tasks), len(tasks))
    return record


def _write_lines(
    renderer: Renderer[Any], tasks: Sequence[Task], folder: Path, on_progress: Callable[[int, int], None]
) -> pa.Table:
    """Writes the two files of lines.

    Returns:
        The table of `dataset/`.
    """
    import pyarrow as pa

    schema = pa.schema([(name, pa.list_(pa.string()) if name == "outputs" else pa.string()) for name in _COLUMNS])
    tables = []
    with _text_file(folder / _SOURCES_AND_TARGETS) as seq2seq, _text_file(folder / _CHATS) as chat:
        for done, task in enumerate(tasks):
            on_progress(done, len(tasks))
            rows = []
            prompts, conversations = renderer.render_whole(task), renderer.conversations(task)
            for instance, prompt, messages in zip(task.instances, prompts, conversations, strict=True):
                about, source, target = {"task": task.name, "id": instance.id}, prompt.source, prompt.targets[0]
                seq2seq.write(_json_line({**about, "source": source, "target": target}))
                chat.write(_json_line({"messages": messages, **about}))
                given = {"category": task.category, "definition": task.definition, "input": instance.input}
                rows.append({**about, **given, "outputs": prompt.targets, "source": source, "target": target})
            tables.append(pa.Table.from_pylist(rows, schema=schema))
    return pa.concat_tables(tables)


def _json_line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).translate(_LINE_ENDS) + "\n"


def _refuse_used_folder(output: Path) -> None:
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise UserError(f"{output}: not a folder; give --output a folder that does not exist yet")
    if output.is_dir() and any(output.iterdir()):
        raise UserError(f"{output}: not empty; give --output a folder that does not exist yet, or empty this one")


@contextmanager
def _text_file(path: Path) -> Iterator[IO[str]]:
    """A new text file, on disk before the context ends."""
    with path.open("x", encoding="utf-8", newline="\n") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
