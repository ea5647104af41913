"""The identity of a model's or encoder's folder: the SHA-256 of every file in it that a library could read.

A file counts unless it is known to have no effect, so that an unexpected file changes the identity instead of silently
changing the results. A file that one of the model's JSON files names always counts: the libraries look for weights and
tokenizers there.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from simtune.errors import ModelError
from simtune.hub import NEVER
from simtune.outside_files import GIB, open_outside, read_outside, read_part
from simtune.storage.files import fingerprint

# By name, in any folder. Code and pickles are never read (`NEVER`).
_NO_EFFECT = (
    *NEVER,
    ".*",
    *("README*", "LICENSE*", "LICENCE*", "NOTICE*", "*.md", "*.rst", "*.png", "*.jpg", "*.jpeg", "*.gif", "*.svg"),
    # The weights in formats that are never loaded.
    *("*.onnx", "*.onnx_data*", "openvino_model*.xml", "*.tflite", "*.gguf", "*.ot", "*.mlmodel", "*.orig"),
    # Files that trainers and evaluators leave.
    *("*.log", "*.csv", "*.tsv", "*.jsonl", "events.out.tfevents*", "trainer_state.json", "all_results.json"),
    *("train_results.json", "eval_results.json"),
)
_FOLDERS_WITHOUT_EFFECT = (".*", "onnx", "openvino", "coreml", "checkpoint-*", "runs", "eval", "__pycache__")
_SMALL_BYTES = 1 << 20
_MOST_BYTES = 1024 * GIB
# Of tokenizers: their strings are pieces of text.
_DATA_FILES = ("tokenizer.json", "vocab.json", "added_tokens.json", "special_tokens_map.json")


def content_of(
    folder: Path, asked: Sequence[str] = ("*",), ignored: Sequence[str] = (), subfolders: bool = True
) -> dict[str, str]:
    """SHA-256 (hex) of the files that determine what a folder's model computes, by their path within it, sorted.

    For the arguments see `files_of`.

    Raises:
        ModelError: a file cannot be read.
    """
    return {name: _sha256(path) for name, path in files_of(folder, asked, ignored, subfolders).items()}


def outline_of(
    folder: Path, asked: Sequence[str] = ("*",), ignored: Sequence[str] = (), subfolders: bool = True
) -> str:
    """A line for each of the same files, with a digest of its size and of the bytes of a small one; reads no weights.

    Folders with the same `content_of` have the same outline. For the arguments see `files_of`.
    """
    lines = []
    for name, path in files_of(folder, asked, ignored, subfolders).items():
        with _unreadable_named(path):
            size = path.stat().st_size
        digest = fingerprint([size, _sha256(path) if size < _SMALL_BYTES else ""])
        lines.append(f"{digest[:16]} {name}")
    return "\n".join(lines)


def differing_files(one: str, other: str, may_be_partial: bool) -> list[str]:
    """The files that differ between two outlines.

    Args:
        one: an outline.
        other: another one.
        may_be_partial: whether files that only one of them has do not count, since they can be downloaded.
    """
    first, second = _digests(one), _digests(other)
    names = first.keys() & second.keys() if may_be_partial else first.keys() | second.keys()
    return sorted(name for name in names if first.get(name) != second.get(name))


def _digests(outline: str) -> dict[str, str]:
    return {name: digest for digest, _, name in (line.partition(" ") for line in outline.splitlines())}


def files_of(
    folder: Path, asked: Sequence[str] = ("*",), ignored: Sequence[str] = (), subfolders: bool = True
) -> dict[str, Path]:
    """The files that determine what a folder's model computes, by their path within it, sorted.

    Args:
        folder: of the model or encoder.
        asked: patterns of paths; for a folder in the hub's cache those that were requested, because other programs
            leave other files there.
        ignored: patterns of names without effect here, in addition to those without effect anywhere.
        subfolders: whether files below the folder count.
    """
    found = {}
    for path, name in _files(folder, subfolders):
        if _matches(path.name, (*_NO_EFFECT, *ignored)):
            continue
        if _matches(name, asked):
            found[name] = path
    _add_named(folder, found, asked)
    return {_readable(name): path for name, path in sorted(found.items())}


def _readable(name: str) -> str:
    """A path within a folder, also if its bytes are not text."""
    return os.fsencode(name).replace(b"\\", b"\\\\").decode(errors="backslashreplace")


@contextmanager
def _unreadable_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from error


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with _unreadable_named(path), open_outside(path, _MOST_BYTES) as file:
        while data := read_part(file, _SMALL_BYTES):
            digest.update(data)
    return digest.hexdigest()


def _add_named(folder: Path, found: dict[str, Path], asked: Sequence[str]) -> None:
    """Adds the files that JSON files among `found` name, and those that these name, unless nothing ever reads them."""
    pending = list(found)
    while pending:
        name = pending.pop()
        if not name.endswith(".json") or Path(name).name in _DATA_FILES:
            continue
        for text in _strings(found[name]):
            named = posixpath.normpath(posixpath.join(posixpath.dirname(name), text))
            if named in found or named.startswith(("/", "..")) or _matches(posixpath.basename(named), NEVER):
                continue
            if _matches(named, asked) and _is_file(folder / named):
                found[named] = folder / named
                pending.append(named)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _strings(path: Path) -> set[str]:
    """The strings in a JSON file; none if it cannot be read, which the code that needs it reports."""
    try:
        pending = [json.loads(read_outside(path, GIB))]
    except (OSError, ValueError, RecursionError):
        return set()
    strings = set()
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            strings.add(value)
        elif isinstance(value, dict | list):
            pending += value.values() if isinstance(value, dict) else value
    return strings


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        # Not a path: too long, or with a NUL.
        return False


def _files(folder: Path, subfolders: bool) -> Iterator[tuple[Path, str]]:
    """Regular files with their paths within the folder.

    Follows links to files, and those to the folders of modules, as the libraries do.
    """
    modules = _module_folders(folder)
    for parent, folders, files in os.walk(folder, followlinks=True):
        at_top = Path(parent) == folder
        folders[:] = sorted(
            name for name in folders if subfolders and ((at_top and name in modules) or _may_count(Path(parent, name)))
        )
        for name in files:
            path = Path(parent, name)
            if _is_file(path):
                yield path, path.relative_to(folder).as_posix()


def _may_count(subfolder: Path) -> bool:
    """Whether the files of a folder that is not a module's count. No library follows a link to such a folder."""
    return not _matches(subfolder.name, _FOLDERS_WITHOUT_EFFECT) and not subfolder.is_symlink()


def _module_folders(folder: Path) -> set[str]:
    """The folders of a sentence encoder's modules, whatever their names."""
    try:
        modules = json.loads((folder / "modules.json").read_bytes())
        return {str(module["path"]).split("/")[0] for module in modules if module.get("path")}
    # The code that loads the encoder reports what is wrong with the file.
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return set()
