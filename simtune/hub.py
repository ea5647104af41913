"""The model hub: from a repository's name to a local folder, in bounded time and always at one commit.

The hub's own client waits without a limit for a server that accepts a connection but sends nothing, and without a
network it retries for half a minute for every single file. Therefore one request with a time limit is made first.

A name is resolved to a commit once per process: its tokenizer and its weights are of the same commit, even if the
repository changes between the two downloads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from simtune.errors import ModelError, cut, shown

# Code and pickle formats are never downloaded, whatever the patterns.
NEVER = ["*.py", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.joblib", "*.h5", "*.msgpack"]
_COMMIT = re.compile("[0-9a-f]{40}")
_commits: dict[tuple[str, str | None], str] = {}


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
            # The first error is more helpful than the one of the cache.
            raise reason from None
    # All files of one call are of one commit. Asking by branch lets the cache record which commit that is.
    folder = Path(snapshot_download(name, revision=at, allow_patterns=wanted, ignore_patterns=NEVER))
    return _pinned(name, revision, folder)


def cached_snapshot(name: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """Like `hub_snapshot`, but from the cache alone, without a request to the hub.

    Raises:
        Exception: it is not in the cache.
    """
    from huggingface_hub import snapshot_download

    at = commit_of(name, revision) or revision
    found = snapshot_download(name, revision=at, allow_patterns=list(patterns), local_files_only=True)
    return _pinned(name, revision, Path(found))


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
