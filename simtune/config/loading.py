"""From a YAML file and `--set` overrides to a `Sweep`; every error names file, line and dotted field.

What YAML itself may say is `yaml_text`'s.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from simtune.config.evaluation import SuiteSettings
from simtune.config.fields import FieldPath
from simtune.config.origins import Origins
from simtune.config.problems import error_lines
from simtune.config.selection import ArmSettings
from simtune.config.set_value import set_value
from simtune.config.settings import Sweep
from simtune.config.yaml_text import YamlTextError, read_yaml, write_yaml
from simtune.errors import ConfigError, cut, shown
from simtune.outside_files import MIB, read_outside, text_file_errors
from simtune.storage.files import AnyPath
from simtune.storage.object_store import ObjectPath, is_object_url

_MOST_PROBLEMS_SHOWN = 20
_LARGEST_FILE = 4 * MIB


def load_sweep(path: AnyPath, overrides: Sequence[str] = (), storage: str | None = None) -> Sweep:
    """The sweep of `read_sweep`, for callers that do not report where its fields come from."""
    return read_sweep(path, overrides, storage)[0]


def read_sweep(path: AnyPath, overrides: Sequence[str] = (), storage: str | None = None) -> tuple[Sweep, Origins]:
    """Reads a sweep file, applies overrides of the form `a.b=value` in order, and checks the whole.

    Relative paths in the result are made absolute against the working directory, because workers run elsewhere.

    Args:
        path: of the sweep file.
        overrides: of the command line (`--set`).
        storage: replaces the sweep's storage.

    Returns:
        The sweep, and where each of its fields comes from: `with origins.in_errors():` adds that to later errors.

    Raises:
        ConfigError: with file, line, field, the value, and the nearest right name for an unknown one.
    """
    sweep, origins = read_sweep_as_written(path, overrides, storage)
    return _with_absolute_paths(sweep, origins.locate), origins


def read_sweep_as_written(
    path: AnyPath, overrides: Sequence[str] = (), storage: str | None = None
) -> tuple[Sweep, Origins]:
    """The sweep of `read_sweep` with its paths as they are in the file, for a machine with other files."""
    settings, lines = _read_yaml(path)
    settings.setdefault("name", path.stem)
    overridden: dict[str, str] = {}
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not all(key.split(".")):
            raise ConfigError(f"--set {shown(override)}: not of the form section.field=value")
        where = cut(f"--set {override}")
        field = ".".join(map(str, set_value(settings, key, parse_value(text, where), where)))
        # What is set again with what is around it came from an earlier option.
        overridden = {name: option for name, option in overridden.items() if not name.startswith(f"{field}.")}
        overridden[field] = where
    if storage is not None:
        settings["storage"] = storage
        overridden["storage"] = cut(f"--storage {storage}")
    origins = Origins(str(path), lines, overridden, _swept_fields(settings))
    return validate(settings, origins.locate), origins


def _swept_fields(settings: dict[str, Any]) -> dict[str, str]:
    """The keys of the grid by the dotted fields that they set, with positions in lists instead of names."""
    found: dict[str, str] = {}
    grid = settings.get("grid")
    for key in grid if isinstance(grid, dict) else ():
        # What no value can be set for is refused when the grid is expanded.
        with contextlib.suppress(ConfigError):
            found[".".join(map(str, set_value(dict(settings), key, None, "grid")))] = key
    return found


def dump_sweep(sweep: Sweep) -> str:
    """The resolved sweep as YAML with every default written out; loading it gives the same sweep."""
    return write_yaml(sweep.model_dump(mode="json"))


def parse_value(text: str, where: str) -> Any:
    """An override's value, read as YAML: numbers, lists such as `[10, 50]`, null, text.

    Raises:
        ConfigError: it is none, or nothing.
    """
    if not text.strip():
        raise ConfigError(f"{where}: no value; write one, or null")
    try:
        return read_yaml(text)[0]
    except YamlTextError as error:
        raise ConfigError(f"{where}: {shown(text)} is not a value ({error})") from None


def validate(settings: dict[str, Any], locate: Callable[[FieldPath], str]) -> Sweep:
    """Checks settings against the models, turning every complaint into one readable line.

    Raises:
        ConfigError: one line a problem.
    """
    try:
        return Sweep.model_validate(settings)
    except ValidationError as error:
        lines = error_lines(error, Sweep, settings, locate)
        more = [f"... and {len(lines) - _MOST_PROBLEMS_SHOWN} more"] * (len(lines) > _MOST_PROBLEMS_SHOWN)
        raise ConfigError("\n".join(lines[:_MOST_PROBLEMS_SHOWN] + more)) from None


def _read_yaml(path: AnyPath) -> tuple[dict[str, Any], dict[FieldPath, int]]:
    with text_file_errors(path, "sweep file", ConfigError):
        data = path.read_bytes() if isinstance(path, ObjectPath) else read_outside(path, _LARGEST_FILE)
        text = data.decode("utf-8-sig")
    try:
        settings, lines = read_yaml(text)
    except YamlTextError as error:
        said = f"{error.field}: {error}" if error.field else f"not valid YAML ({error})"
        raise ConfigError(f"{path}{error.position}: {said}") from None
    if not isinstance(settings, dict):
        found = "nothing" if settings is None else type(settings).__name__
        raise ConfigError(f"{path}: a sweep file is a mapping (name: ..., corpus: ...), found {found}")
    return settings, lines


NO_FOLDERS = ("demo", "pool")
"""The words in the place of a folder that name none."""
_SWEPT_FOLDERS = ("corpus.path", "model.name", "model.tokenizer", "embedding.encoder")


def with_changed_folders(key: str, value: Any, change: Callable[[str], str | None]) -> Any:
    """A value of the grid with every text in it changed that may name a folder.

    Args:
        key: of the grid.
        value: one of its values.
        change: called with each such text.
    """
    if f"{key}.".startswith("evaluation.suites."):
        if isinstance(value, list):
            return [with_changed_folders(key, each, change) for each in value]
        if isinstance(value, dict) and isinstance(value.get("rouge_tokenizer"), str):
            return value | {"rouge_tokenizer": change(value["rouge_tokenizer"])}
        return change(value) if isinstance(value, str) and key.endswith(".rouge_tokenizer") else value
    is_folder = key in _SWEPT_FOLDERS and isinstance(value, str) and value not in NO_FOLDERS
    return change(value) if is_folder else value


def _with_absolute_paths(sweep: Sweep, locate: Callable[[FieldPath], str]) -> Sweep:
    def local(text: str | None) -> str | None:
        """Hub names stay as they are; folders that exist here become absolute."""
        try:
            return path if text and Path(path := _absolute(text, "")).exists() else text
        except (ConfigError, OSError):
            return text

    def absolute_list(arm: ArmSettings) -> ArmSettings:
        parameters = arm.parameters
        if arm.strategy == "list" and "file" in parameters:
            where = locate(("selection", "strategies"))
            parameters = parameters | {"file": _absolute(str(parameters["file"]), where)}
        return arm.model_copy(update={"parameters": parameters})

    corpus, selection, model = sweep.corpus, sweep.selection, sweep.model
    if corpus.path != "demo":
        corpus = corpus.model_copy(update={"path": _absolute(corpus.path, locate(("corpus", "path")))})
    strategies = tuple(map(absolute_list, selection.strategies))
    tokenizer = model.tokenizer if model.tokenizer in NO_FOLDERS else local(model.tokenizer)
    return sweep.model_copy(
        update={
            "corpus": corpus,
            "selection": selection.model_copy(update={"strategies": strategies}),
            "embedding": sweep.embedding.model_copy(update={"encoder": local(sweep.embedding.encoder)}),
            "model": model.model_copy(update={"name": local(model.name), "tokenizer": tokenizer}),
            "evaluation": sweep.evaluation.model_copy(update={"suites": _local_suites(sweep.evaluation.suites, local)}),
            "grid": {
                key: tuple(with_changed_folders(key, value, local) for value in values)
                for key, values in sweep.grid.items()
            },
            "storage": _absolute_storage(sweep.storage, locate(("storage",))),
        }
    )


def _local_suites(
    suites: Sequence[SuiteSettings] | None, local: Callable[[str | None], str | None]
) -> tuple[SuiteSettings, ...] | None:
    if suites is None:
        return None
    return tuple(suite.model_copy(update={"rouge_tokenizer": local(suite.rouge_tokenizer)}) for suite in suites)


def _absolute(text: str, where: str) -> str:
    path = Path(text)
    try:
        path = path.expanduser().absolute()
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        # Whoever needs it reports that.
        pass
    # No such user, a zero byte, an unpaired surrogate, or longer than a path can be.
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{where}: {shown(text)} cannot be a path ({reason}); give another") from None
    return str(path)


def _absolute_storage(text: str, where: str) -> str:
    if not is_object_url(text):
        return _absolute(text, where)
    try:
        return str(ObjectPath.from_url(text))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
