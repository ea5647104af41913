"""What lies at a path: a file, a folder, or something of another kind than the one that belongs there.

`Path.is_file` takes a folder, a dangling link or a pipe for "not there": what should lie there would be made again and
again, and never be found. Here such a thing is an error that names it, and a pipe is never opened.
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
from simtune.outside_files import SPECIAL_KINDS
from simtune.storage.object_store import ObjectPath

Kind = Literal["file", "folder"]
_NUM_NAMED = 5


@dataclass(frozen=True)
class WrongKind:
    """Something of the wrong kind: where, and what it is."""

    path: Path
    problem: str

    def error(self) -> RunError:
        return RunError(f"{self.path}: {self.problem}; move it aside and run again")


def kind_at(path: Path) -> str | None:
    """`file`, `folder`, or in words what else lies there; None where nothing does. Links are followed."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "a link to a place that does not exist" if path.is_symlink() else None
    except NotADirectoryError:
        return None
    except OSError as error:
        return "a link that leads back to itself" if error.errno == errno.ELOOP else f"unreadable ({error.strerror})"
    if stat.S_ISREG(mode):
        return "file"
    return "folder" if stat.S_ISDIR(mode) else SPECIAL_KINDS.get(stat.S_IFMT(mode), "no file")


def wrong_kind(path: Path, expected: Kind) -> WrongKind | None:
    """What is wrong where something else than `expected` lies at a path; None where nothing is."""
    found = kind_at(path)
    if found is None or found == expected:
        return None
    words = f"a {found}" if found in {"file", "folder"} else found
    return WrongKind(path, f"is {words}, not a {expected}")


def obstacle(path: Path) -> WrongKind | None:
    """What keeps a file from being written to a path: the wrong kind of thing there, or for a folder above it."""
    above = (wrong_kind(parent, "folder") for parent in reversed(path.absolute().parents))
    return next(filter(None, above), None) or wrong_kind(path, "file")


def has_file(path: Path | ObjectPath) -> bool:
    """Whether a file is there.

    Raises:
        RunError: something else is.
    """
    if isinstance(path, ObjectPath):
        return path.is_file()
    wrong = wrong_kind(path, "file")
    if wrong is not None:
        raise wrong.error()
    return path.is_file()


def read_file(path: Path | ObjectPath) -> bytes:
    """A file's bytes; nothing but a regular file is opened.

    Raises:
        FileNotFoundError: nothing is there.
        RunError: something else is, here or in place of a folder above; or it cannot be read.
    """
    if isinstance(path, ObjectPath):
        return path.read_bytes()
    try:
        if kind_at(path) == "file":
            return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); look at its permissions and its disk") from error
    wrong = obstacle(path)
    if wrong is not None:
        raise wrong.error()
    raise FileNotFoundError(str(path))


def wrong_kinds(root: Path, expected: Mapping[str, Kind]) -> Iterator[WrongKind]:
    """Everything below a folder, and the folder itself, that is of the wrong kind; nothing is opened.

    Args:
        expected: by path within the folder, where `*` stands for any text without a slash; names that no pattern has
            may be anything.
    """
    wrong = wrong_kind(root, "folder")
    if wrong is not None:
        yield wrong
        return
    patterns = [(_regex(pattern), pattern.count("/"), kind) for pattern, kind in expected.items()]
    deepest = max((depth for _, depth, _ in patterns), default=0)
    waiting = [("", root)]
    while waiting:
        inside, folder = waiting.pop()
        try:
            names = sorted(path.name for path in folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            yield WrongKind(folder, f"cannot be read ({error.strerror})")
            continue
        for name in names:
            place = f"{inside}{name}"
            kind = next((kind for regex, _, kind in patterns if regex.fullmatch(place)), None)
            wrong = wrong_kind(folder / name, kind) if kind else None
            if wrong is not None:
                yield wrong
            elif kind == "folder" and place.count("/") < deepest:
                waiting.append((f"{place}/", folder / name))


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile("[^/]*".join(re.escape(part) for part in pattern.split("*")))


def refuse_wrong_kinds(found: list[WrongKind]) -> None:
    """
    Raises:
        RunError: names the first few, and how many more there are.
    """
    if found:
        told = "; ".join(f"{wrong.path} {wrong.problem}" for wrong in found[:_NUM_NAMED])
        more = f"; and {len(found) - _NUM_NAMED} more (`simtune doctor` lists them)" if found[_NUM_NAMED:] else ""
        raise RunError(f"{told}{more}. Move {'it' if len(found) == 1 else 'them'} aside and run again")
