"""The model hub: from a repository's name to a local folder, in bounded time.

The hub's own client waits without a limit for a server that accepts and says nothing, and, asked for one file after
the other, retries each for half a minute where there is no network. Here one question with a time limit comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from simtune.errors import ModelError


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
    try:
        HfApi().model_info(name, revision=revision, timeout=HF_HUB_ETAG_TIMEOUT)
    except Exception as reason:
        try:
            return Path(snapshot_download(name, revision=revision, allow_patterns=wanted, local_files_only=True))
        except Exception:
            # That the cache lacks it too is the lesser news.
            raise reason from None
    return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))


def local_folder(name: str, field: str) -> Path | None:
    """The folder that a name is, or None for a name to ask the hub for.

    Raises:
        ModelError: the name can only be a path, and nothing is there.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    # `owner/name` may be either; a hub name never begins like a path nor has more than one slash.
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"{field}: {name}: no such folder. Give a folder that is there, or a hub name (owner/name)")
    return None
