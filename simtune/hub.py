"""The model hub: from a repository's name to a local folder, in bounded time and always at one commit.

The hub's own client waits without a limit for a server that accepts and says nothing, and, asked for one file after
the other, retries each for half a minute where there is no network. Here one question with a time limit comes first.

A name is resolved to a commit once a process: its tokenizer and its weights are of the same commit, even where the
repository changes between the two downloads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from simtune.errors import ModelError, cut, shown

# Code, and formats that are pickles: never downloaded, whatever the patterns say.
NEVER = ["*.py", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.joblib", "*.h5", "*.msgpack"]
_COMMIT = re.compile("[0-9a-f]{40}")
_commits: dict[tuple[str, str | None], str] = {}


def hub_snapshot(name: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """The folder of a repository in the hub's cache, its files brought there where they are missing.

    Where the hub cannot be asked, what the cache holds will do, if it is whole. The time limit of the question is the
    hub client's own (`HF_HUB_ETAG_TIMEOUT`, 10 seconds).

    Raises:
        Exception: the hub's own reason, of the many types of its client.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.constants import HF_HUB_ETAG_TIMEOUT

    wanted = list(patterns)
    at = commit_of(name, revision) or revision
    try:
        HfApi().model_info(name, revision=at, timeout=HF_HUB_ETAG_TIMEOUT)
    except Exception as reason:
        try:
            return cached_snapshot(name, revision, wanted)
        except Exception:
            # That the cache lacks it too is the lesser news.
            raise reason from None
    # All files of one call are of one commit; by its branch, so that the cache learns which commit that is.
    folder = Path(snapshot_download(name, revision=at, allow_patterns=wanted, ignore_patterns=NEVER))
    return _pinned(name, revision, folder)


def cached_snapshot(name: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """The same from the cache alone, without a question to the hub.

    Raises:
        Exception: it is not in the cache.
    """
    from huggingface_hub import snapshot_download

    at = commit_of(name, revision) or revision
    found = snapshot_download(name, revision=at, allow_patterns=list(patterns), local_files_only=True)
    return _pinned(name, revision, Path(found))


def commit_of(name: str, revision: str | None) -> str | None:
    """The commit that a name and revision were resolved to in this process; None for what did not come from the hub."""
    return _commits.get((name, revision))


def local_folder(name: str, field: str) -> Path | None:
    """The folder that a name is, or None for a name to ask the hub for.

    Raises:
        ModelError: the name can only be a path, and nothing is there.
    """
    try:
        folder = Path(name).expanduser()
        if folder.is_dir():
            return folder
    # Too long for a path, or of a user that is not here.
    except (OSError, RuntimeError) as error:
        raise ModelError(f"{field}: {shown(name)}: neither a folder nor a hub name ({cut(str(error))})") from None
    # `owner/name` may be either; a hub name never begins like a path nor has more than one slash.
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"{field}: {name}: no such folder. Give a folder that is there, or a hub name (owner/name)")
    return None


def _pinned(name: str, revision: str | None, folder: Path) -> Path:
    # The cache names a snapshot's folder by its commit.
    if _COMMIT.fullmatch(folder.name):
        _commits.setdefault((name, revision), folder.name)
    return folder
