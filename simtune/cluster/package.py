"""What a job works with on a cluster: this very simtune, the sweep file and its lists, as one zip archive.

Ray unpacks it on every machine that runs a part of the job, and searches it for modules first. So a sweep runs the code
that has checked it, whatever is installed there, and nothing else of the working directory is sent: no data, no runs,
and no module that would shadow a library's.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import simtune
from simtune.code_commit import COMMIT_FILE, code_commit
from simtune.errors import UserError
from simtune.outside_files import MIB

_LARGEST_MIB = 16
# Zip archives know no earlier time. With the files' own times, the same files would make other archives.
_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Package:
    """A zip archive.

    Attributes:
        name: contains a hash of the content.
        code: a hash of simtune's files alone.
    """

    name: str
    data: bytes
    code: str


def make_package(files: Mapping[str, bytes], source: Path | None = None) -> Package:
    """Packs simtune and further files; the same files make the same bytes.

    Args:
        files: by path.
        source: simtune's folder; None: that of this process.

    Raises:
        UserError: simtune's folder contains more than its code.
    """
    folder = source or Path(simtune.__file__).parent
    code = {f"simtune/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in _source_files(folder)}
    size = sum(map(len, code.values()))
    if size > _LARGEST_MIB * MIB:
        largest = sorted(code, key=lambda name: len(code[name]), reverse=True)[:3]
        raise UserError(
            f"{folder}: {size / MIB:,.0f} MiB of files, more than the {_LARGEST_MIB} MiB that are sent to a cluster. "
            f"Move what is not simtune's code elsewhere; the largest: {', '.join(largest)}"
        )
    # Git's own folder, which knows the commit, is not sent. It does not belong to what is compared as code.
    told = {f"simtune/{COMMIT_FILE}": f"{code_commit(folder)}\n".encode()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted({**code, **told, **files}.items()):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    data = buffer.getvalue()
    # Ray knows packages by names of this form.
    return Package(f"_ray_pkg_{_hash(data)}.zip", data, _hash(repr(sorted(code.items())).encode()))


def _source_files(folder: Path) -> Iterator[Path]:
    """The files of a Python package, without what editors and Python itself leave there."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        is_left_over = path.suffix in {".pyc", ".pyo", ".orig", ".rej", ".swp"} or path.name.endswith("~")
        is_left_over |= any(part == "__pycache__" or part.startswith(".") for part in parts)
        if not is_left_over and parts != (COMMIT_FILE,) and path.is_file():
            yield path


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
