"""The model hub: from a repository's name to a local folder, in bounded time and always at one commit.

The hub's own client waits without a limit for a server that accepts a connection but sends nothing, and without a
network it retries for half a minute for every single file. Therefore one request with a time limit is made first.

A name is resolved to a commit once per process: its tokenizer and its weights are of the same commit, even if the
repository changes between the two downloads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from simtune.errors import ModelError, cut, first_line, shown
from simtune.outside_files import GIB, read_outside

# Code and pickle formats are never downloaded, whatever the patterns.
NEVER = ["*.py", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.joblib", "*.h5", "*.msgpack"]
_PART = re.compile(r"(?P<start>.+)-\d+-of-(?P<total>\d{1,5})\.safetensors")
_COMMIT = re.compile("[0-9a-f]{40}")
_commits: dict[tuple[str, str | None], str] = {}


class _PartialSnapshotError(FileNotFoundError):
    """The cache may have only a part of a repository."""


def hub_snapshot(name: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """The folder of a repository in the hub's cache; missing files are downloaded.

    If the hub cannot be reached, the cache is used, provided it is complete. The time limit of the request is that of
    the hub's client (`HF_HUB_ETAG_TIMEOUT`, 10 seconds).

    Args:
        name: of the repository.
        revision: a branch, tag or commit; None for the main branch.
        patterns: of the files that are needed.

    Raises:
        Exception: one of the many errors of the hub's client.
    """
    from huggingface_hub import hf_hub_download, snapshot_download

    wanted = list(patterns)
    at = commit_of(name, revision) or revision
    try:
        ask_hub(name, at)
    except Exception as reason:
        try:
            return cached_snapshot(name, revision, wanted)
        except _PartialSnapshotError as partial:
            raise _PartialSnapshotError(f"{partial}; {type(reason).__name__}: {first_line(reason)}") from reason
        except Exception:
            # The first error is more helpful than the one of the cache.
            raise reason from None
    # All files of one call are of one commit. Asking by branch lets the cache record which commit that is.
    folder = Path(snapshot_download(name, revision=at, allow_patterns=wanted, ignore_patterns=NEVER))
    for file in _missing(folder, wanted):
        if not _is_known_to_be_absent(name, file, folder):
            # The failed request makes the cache record that the repository has no such file.
            with suppress(Exception):
                hf_hub_download(name, file, revision=folder.name)
    return _pinned(name, revision, folder)


def ask_hub(name: str, revision: str | None) -> None:
    """Asks the hub whether it has a repository, within the time limit of its client; downloads nothing.

    Raises:
        Exception: it does not answer, or does not have it; one of the many errors of the hub's client.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.constants import HF_HUB_ETAG_TIMEOUT

    HfApi().model_info(name, revision=revision, timeout=HF_HUB_ETAG_TIMEOUT)


def cached_snapshot(name: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """Like `hub_snapshot`, but from the cache alone, without a request to the hub.

    Raises:
        Exception: it is not in the cache, or only a part of it may be, such as the files that another program needs.
    """
    from huggingface_hub import snapshot_download

    at = commit_of(name, revision) or revision
    found = Path(snapshot_download(name, revision=at, allow_patterns=list(patterns), local_files_only=True))
    if unknown := [file for file in _missing(found, patterns) if not _is_known_to_be_absent(name, file, found)]:
        raise _PartialSnapshotError(
            f"the cache may have only part of it, because it does not say whether there is a {unknown[0]} ({found}): "
            "use it once with a network connection"
        )
    return _pinned(name, revision, found)


def _missing(folder: Path, patterns: Sequence[str]) -> list[str]:
    """The patterns that name one file which a folder does not have."""
    return [file for file in patterns if "*" not in file and not (folder / file).exists()]


def _is_known_to_be_absent(name: str, file: str, folder: Path) -> bool:
    """Whether a repository has no such file: the cache has recorded that, or has the whole repository."""
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

    # Only a download of the whole repository has the one, and files come in the order of their names.
    if (folder / ".gitattributes").exists() and any(path.name > file for path in folder.iterdir()):
        return True
    return try_to_load_from_cache(name, file, revision=folder.name) is _CACHED_NO_EXIST


def find_on_host(
    name: str, revision: str | None, patterns: Sequence[str], field: str
) -> tuple[Path | None, Sequence[str]]:
    """Finds what a name refers to on a host of a cluster; downloads nothing.

    Args:
        name: a folder's absolute path, or a name on the hub.
        revision: a branch, tag or commit; None for the main branch.
        patterns: of the files that are needed.
        field: the setting that contains the name, for messages.

    Returns:
        The folder, and the patterns of its files that count. No folder if it is not here yet and the hub has it.

    Raises:
        ModelError: it is neither here nor on a hub that answers.
    """
    if Path(name).is_absolute():
        if not Path(name).is_dir():
            raise ModelError(
                f"{name}: there is no such folder. Put it where every host sees it under the same path, or give a hub "
                "name",
                field=field,
            )
        return Path(name), ("*",)
    with suppress(Exception):
        folder = cached_snapshot(name, revision, patterns)
        if _has_all_weights(folder, field):
            return folder, patterns
    try:
        ask_hub(name, revision)
    except Exception as error:
        raise ModelError(
            f"{name!r} is not in the cache of the model hub, and cannot be downloaded ({type(error).__name__}: "
            f"{cut(first_line(error))}). Copy it to a folder that every host sees and give that, or let this "
            "machine reach the hub",
            field=field,
        ) from error
    return None, patterns


def _has_all_weights(folder: Path, field: str) -> bool:
    """Whether a folder in the cache has weights, and all parts of them; a download may have been interrupted."""
    weights = [path.relative_to(folder).as_posix() for path in folder.rglob("*.safetensors")]
    parts = {name for index in folder.glob("*.safetensors.index.json") for name in listed_weights(index, field)}
    for name in weights:
        if part := _PART.fullmatch(name):
            start, width, total = part["start"], len(part["total"]), int(part["total"])
            parts |= {f"{start}-{number:0{width}}-of-{part['total']}.safetensors" for number in range(1, total + 1)}
    return bool(weights) and parts <= set(weights)


def listed_weights(index: Path, field: str) -> list[str]:
    """The files of weights that an index lists, each once.

    Raises:
        ModelError: it is no such index.
    """
    try:
        return sorted(set(json.loads(read_outside(index, GIB))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{index} cannot be read as an index of weights ({type(error).__name__}: {first_line(error)}). Download it "
            "again",
            field=field,
        ) from error


def commit_of(name: str, revision: str | None) -> str | None:
    """The commit to which this process resolved a name and revision; None if it did not come from the hub."""
    return _commits.get((name, revision))


def local_folder(name: str, field: str) -> Path | None:
    """The folder that a name refers to; None if it is a name on the hub.

    Args:
        name: a path, or `owner/name` on the hub.
        field: the setting that contains the name, for the message.

    Raises:
        ModelError: the name can only be a path, and there is no such folder.
    """
    try:
        folder = Path(name).expanduser()
        if folder.is_dir():
            return folder
    # Too long for a path, or `~user` with an unknown user.
    except (OSError, RuntimeError) as error:
        raise ModelError(f"{shown(name)}: neither a folder nor a hub name ({cut(str(error))})", field=field) from None
    # `owner/name` may be either. A hub name never begins like a path and has at most one slash.
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"{name}: no such folder. Give an existing folder, or a hub name (owner/name)", field=field)
    return None


def _pinned(name: str, revision: str | None, folder: Path) -> Path:
    # The cache names a snapshot's folder by its commit.
    if _COMMIT.fullmatch(folder.name):
        _commits.setdefault((name, revision), folder.name)
    return folder
