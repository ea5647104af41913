"""A sweep as a cluster can run it: what it names must mean the same there as on the machine that submits it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from simtune.config import ArmSettings, Sweep, dump_sweep
from simtune.config.loading import NO_FOLDERS, with_changed_folders
from simtune.errors import ConfigError, UserError
from simtune.outside_files import MIB, read_outside, text_file_errors
from simtune.storage.files import as_path
from simtune.storage.object_store import is_object_url

SWEEP_FILE = "sweep.yaml"
_LARGEST_LIST = 4 * MIB
_SEEN_BY_ALL = "a folder that every machine of the cluster sees under the same path"


@dataclass(frozen=True)
class PortableSweep:
    """A sweep and the small files that it needs, which are sent with it.

    Attributes:
        sweep: every field resolved; files that are sent have paths relative to `SWEEP_FILE`.
        files: the sent files by path, `SWEEP_FILE` among them.
    """

    sweep: Sweep
    files: dict[str, bytes]

    @property
    def run(self) -> str:
        """The run directory, as the cluster sees it."""
        return str(as_path(self.sweep.storage) / self.sweep.name)


def make_portable(sweep: Sweep) -> PortableSweep:
    """Checks that a cluster can run a sweep, and reads the lists of tasks that are sent with it.

    Args:
        sweep: with its paths as they are in the sweep file.

    Raises:
        ConfigError: a field names something that only this machine has; each such field is a line of the message.
        UserError: a list of tasks cannot be read.
    """
    problems = list(_problems(sweep))
    if problems:
        (field, message), *others = problems
        raise ConfigError(message, field=field, others=others)
    files: dict[str, bytes] = {}
    arms = tuple(_with_sent_list(arm, number, files) for number, arm in enumerate(sweep.selection.strategies))
    selection = sweep.selection.model_copy(update={"strategies": arms})
    sent = sweep.model_copy(update={"selection": selection, "storage": str(as_path(sweep.storage))})
    files[SWEEP_FILE] = dump_sweep(sent).encode()
    return PortableSweep(sent, files)


def _problems(sweep: Sweep) -> Iterator[tuple[str, str]]:
    """Fields that name something of this machine, each with what to do."""
    if is_object_url(sweep.storage):
        try:
            as_path(sweep.storage)
        except ConfigError as error:
            yield "storage", str(error)
    elif not PurePosixPath(sweep.storage).is_absolute():
        yield (
            "storage",
            f"{sweep.storage!r} is relative, so each machine of the cluster would have its own. Give a bucket "
            f"(--storage s3://BUCKET/runs) or {_SEEN_BY_ALL} (--storage /mnt/simtune/runs)",
        )
    if sweep.corpus.path not in NO_FOLDERS and not PurePosixPath(sweep.corpus.path).is_absolute():
        yield "corpus.path", _of_this_machine(sweep.corpus.path, "corpus.path", "/mnt/simtune/natural-instructions")
    named = {
        "model.name": sweep.model.name,
        "model.tokenizer": sweep.model.tokenizer,
        "embedding.encoder": sweep.embedding.encoder,
    }
    named |= {
        f"evaluation.suites.{number}.rouge_tokenizer": suite.rouge_tokenizer
        for number, suite in enumerate(sweep.evaluation.suites or ())
    }
    for key, values in sweep.grid.items():
        for value in values:
            if key == "corpus.path" and value not in NO_FOLDERS and not PurePosixPath(str(value)).is_absolute():
                yield f"grid.{key}", _of_this_machine(str(value), key, "/mnt/simtune/natural-instructions")
            named |= {f"grid.{key}": text for text in _swept_folders(key, value) if _is_folder_here(text)}
    for field, text in named.items():
        if _is_folder_here(text):
            yield field, _of_this_machine(str(text), field, f"/mnt/simtune/{PurePosixPath(str(text)).name}")


def _swept_folders(key: str, value: object) -> list[str]:
    found: list[str] = []
    # A corpus has to be absolute whether or not it is here.
    if key != "corpus.path":
        with_changed_folders(key, value, found.append)
    return found


def _is_folder_here(text: str | None) -> bool:
    """Whether a hub name or folder is a folder of this machine: a relative path, or a name that exists here."""
    if text is None or text in NO_FOLDERS or PurePosixPath(text).is_absolute():
        return False
    try:
        return text.startswith((".", "~")) or Path(text).exists()
    except (OSError, ValueError):
        return False


def _of_this_machine(text: str, field: str, example: str) -> str:
    name = field.removeprefix("grid.")
    return f"{text!r} is a path of this machine. Copy it to {_SEEN_BY_ALL} and name that: --set {name}={example}"


def _with_sent_list(arm: ArmSettings, number: int, files: dict[str, bytes]) -> ArmSettings:
    """An arm whose list of tasks, if it is a file of this machine, is sent; `files` gets it."""
    file = arm.parameters.get("file")
    if arm.strategy != "list" or file is None:
        return arm
    path = Path(str(file)).expanduser()
    if PurePosixPath(str(file)).is_absolute() and not path.exists():
        # Of a folder that the machines of the cluster see.
        return arm
    with text_file_errors(path, "list of tasks", UserError):
        data = read_outside(path, _LARGEST_LIST)
    # The file's name names the arm in tables.
    sent = f"lists/{number}/{path.name}"
    files[sent] = data
    return arm.model_copy(update={"parameters": arm.parameters | {"file": sent}})
