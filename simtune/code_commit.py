"""From which commit the code of a package is. Also sent to hosts as code, so nothing of simtune is imported here."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
from pathlib import Path

COMMIT_FILE = "commit.txt"
"""In the simtune of a submitted sweep, which has no folder of git's: what `code_commit` has found where it was sent."""
_LIMIT_S = 40.0


def code_commit(folder: Path) -> str:
    """The git commit of a package in a checkout, or from which it was sent or installed; empty if unknown.

    `with changes` follows if files of the package differ from that commit.
    """
    if (folder.parent / ".git").exists():
        commit = _git(folder, "rev-parse", "HEAD")
        return f"{commit} with changes" if commit and _git(folder, "status", "--porcelain", "--", ".") else commit
    try:
        return (folder / COMMIT_FILE).read_text().strip()
    except OSError:
        return _installed_from(folder)


def _installed_from(folder: Path) -> str:
    try:
        installed = importlib.metadata.distribution("simtune")
        # Another copy may be imported first.
        if Path(str(installed.locate_file("simtune"))) != folder:
            return ""
        origin = json.loads(installed.read_text("direct_url.json") or "{}")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return ""
    return str(origin.get("vcs_info", {}).get("commit_id", ""))


def _git(folder: Path, *words: str) -> str:
    """What a command of git prints; empty if it fails."""
    git = shutil.which("git")
    if git is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603
            [git, "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=_LIMIT_S
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
