"""Whether a path has a file, a folder, or something that is neither.

`Path.is_file` reports a folder, a broken link or a pipe as "not there": what belongs there would be computed again and
again, and never be found. Here each of them is an error that names it, and a pipe is never opened.
"""

from __future__ import annotations

import errno
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from simtune.errors import RunError
from simtune.outside_files import SPECIAL_FILE_TYPES
from simtune.storage.object_store import ObjectPath

FileType = Literal["file", "folder"]
_NUM_NAMED = 5


@dataclass(frozen=True)
class WrongFileType:
    """Something that is not of the expected type.

    Attributes:
        path: where it is.
        problem: what it is, to follow the path in a message.
    """

    path: Path
    problem: str

    def error(self) -> RunError:
        """The error that names it."""
        return RunError(f"{self.path}: {self.problem}; move it aside and run again")


def file_type_at(path: Path) -> str | None:
    """`file`, `folder` or a description of anything else at a path; None if there is nothing. Follows links."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "a broken link" if path.is_symlink() else None
    except NotADirectoryError:
        return None
    except OSError as error:
        return "a link to itself" if error.errno == errno.ELOOP else f"unreadable ({error.strerror})"
    if stat.S_ISREG(mode):
        return "file"
    return "folder" if stat.S_ISDIR(mode) else SPECIAL_FILE_TYPES.get(stat.S_IFMT(mode), "of an unknown type")


def wrong_file_type(path: Path, expected: FileType) -> WrongFileType | None:
    """What is wrong if something other than `expected` is at a path; None if nothing is."""
    found = file_type_at(path)
    if found is None or found == expected:
        return None
    words = f"a {found}" if found in {"file", "folder"} else found
    return WrongFileType(path, f"is {words}, not a {expected}")


def obstacle(path: Path) -> WrongFileType | None:
    """What prevents writing a file to a path: something else at the path, or a file instead of a folder above it."""
    above = (wrong_file_type(parent, "folder") for parent in reversed(path.absolute().parents))
    return next(filter(None, above), None) or wrong_file_type(path, "file")


def has_file(path: Path | ObjectPath) -> bool:
    """Whether a file is there.

    Raises:
        RunError: something else is.
    """
    if isinstance(path, ObjectPath):
        return path.is_file()
    wrong = wrong_file_type(path, "file")
    if wrong is not None:
        raise wrong.error()
    return path.is_file()


def read_file(path: Path | ObjectPath) -> bytes:
    """The bytes of a file; opens only regular files.

    Raises:
        FileNotFoundError: there is nothing at the path.
        RunError: there is something else at the path, or a file instead of a folder above it; or it cannot be read.
    """
    if isinstance(path, ObjectPath):
        return path.read_bytes()
    try:
        if file_type_at(path) == "file":
            return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); check its permissions and its disk") from error
    wrong = obstacle(path)
    if wrong is not None:
        raise wrong.error()
    raise FileNotFoundError(str(path))


def wrong_file_types(root: Path, expected: Mapping[str, FileType]) -> Iterator[WrongFileType]:
    """Everything below a folder, and the folder itself, that is of the wrong type; opens nothing.

    Args:
        root: the folder.
        expected: file types by path within the folder, in which `*` stands for any text without a slash; a path that
            matches no pattern may be anything.
    """
    wrong = wrong_file_type(root, "folder")
    if wrong is not None:
        yield wrong
        return
    patterns = [(_regex(pattern), pattern.count("/"), file_type) for pattern, file_type in expected.items()]
    deepest = max((depth for _, depth, _ in patterns), default=0)
    pending = [("", root)]
    while pending:
        prefix, folder = pending.pop()
        try:
            names = sorted(path.name for path in folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            yield WrongFileType(folder, f"cannot be read ({error.strerror})")
            continue
        for name in names:
            inside = f"{prefix}{name}"
            file_type = next((file_type for regex, _, file_type in patterns if regex.fullmatch(inside)), None)
            wrong = wrong_file_type(folder / name, file_type) if file_type else None
            if wrong is not None:
                yield wrong
            elif file_type == "folder" and inside.count("/") < deepest:
                pending.append((f"{inside}/", folder / name))


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile("[^/]*".join(re.escape(part) for part in pattern.split("*")))


def refuse_wrong_file_types(found: list[WrongFileType]) -> None:
    """Refuses to continue if anything of the wrong type was found.

    Raises:
        RunError: names the first few, and how many more there are.
    """
    if found:
        listed = "; ".join(f"{wrong.path} {wrong.problem}" for wrong in found[:_NUM_NAMED])
        more = f"; and {len(found) - _NUM_NAMED} more (`simtune doctor` lists them)" if found[_NUM_NAMED:] else ""
        raise RunError(f"{listed}{more}. Move {'it' if len(found) == 1 else 'them'} aside and run again")
