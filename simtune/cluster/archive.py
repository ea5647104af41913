"""A run's tables and report as one stream: packed where the run can be read, unpacked where they are wanted."""

from __future__ import annotations

import contextlib
import io
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Literal

from simtune.errors import ClusterError, RunError, UserError
from simtune.storage.file_types import read_file
from simtune.storage.files import AnyPath
from simtune.storage.records import Record, read_record, write_record

_OF_A_RUN = ".lease"
"""Every run directory has this file; a copy of one has not."""

COPY = "copy.json"
"""In a copy of a run: which run it is of."""


class _Copy(Record):
    version: Literal[1] = 1
    source: str


def pack(files: Mapping[str, AnyPath], last: str, stream: IO[bytes]) -> None:
    """Writes files to a stream as a tar archive.

    Args:
        files: by path in the archive.
        last: the path of a file that is written last, so that its presence shows that the archive is whole.
        stream: gets the archive.
    """
    names = [*(name for name in sorted(files) if name != last), last]
    with tarfile.open(fileobj=stream, mode="w|") as archive:
        for name in names:
            data = read_file(files[name])
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))


def unpack(stream: IO[bytes], last: str, folder: Path, source: str) -> int:
    """Makes a folder of the files of an archive, all at once; an earlier copy of the same run is replaced.

    Args:
        stream: of the archive.
        last: the file that shows that the archive is whole.
        folder: to make.
        source: names the run everywhere.

    Returns:
        The number of files.

    Raises:
        UserError: there is something else in the folder's place.
        ClusterError: the archive is not whole.
    """
    check_target(folder, source)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        unpacked = Path(temporary) / "new"
        try:
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                archive.extractall(unpacked, filter="data")
        except (tarfile.TarError, EOFError) as error:
            raise ClusterError(f"{folder}: not downloaded, since the stream is damaged ({error}); try again") from error
        if not (unpacked / last).is_file():
            raise ClusterError(f"{folder}: not downloaded, since the stream ended early; try again")
        write_record(unpacked / COPY, _Copy(source=source))
        num_files = -1 + sum(path.is_file() for path in unpacked.rglob("*"))
        if folder.exists():
            folder.rename(Path(temporary) / "old")
        unpacked.rename(folder)
        shutil.rmtree(Path(temporary) / "old", ignore_errors=True)
    return num_files


def check_target(folder: Path, source: str) -> None:
    """Refuses to replace anything but an earlier copy of the same run.

    Args:
        folder: that would be replaced.
        source: names the run everywhere.

    Raises:
        UserError: the folder is a run itself, a copy of another run, or something else.
    """
    if not folder.exists():
        return
    copied = None
    with contextlib.suppress(OSError, RunError):
        copied = read_record(folder / COPY, _Copy).source
    if copied != source or (folder / _OF_A_RUN).exists():
        what = f"a copy of {copied}" if copied else "something else"
        if (folder / _OF_A_RUN).exists():
            what = "a run of this machine"
        raise UserError(f"{folder}: already exists and is {what}; give --output another folder")
