"""simtune: which instruction tasks should a model be trained on, and what was the choice worth?

Importing this package loads neither torch nor ray; each module imports what it needs when it is used. It sets how
threads wait for each other (see `simtune.threads`).
"""

import os
import sys


def _means_here(entry: str) -> bool:
    """Whether an entry of a search path is the working directory; an absolute path to it is somebody's own choice."""
    if not entry or os.path.isabs(entry):  # noqa: PTH117
        return not entry
    return os.path.isdir(entry) and os.path.samefile(entry, os.curdir)  # noqa: PTH112, PTH121


def _search_no_working_directory() -> None:
    """Takes the working directory out of the module search path where this process is the command.

    Whoever runs it inside a cloned corpus would run that corpus's `statistics.py`. The folder is there once for
    `python -m simtune.cli`, and once for an entry of PYTHONPATH that is empty or a relative path to it (`.`, `./`).
    """
    started = sys.argv[0] if sys.argv else ""
    # pathlib would be imported from a file.
    if started != "-m" and os.path.basename(started) != "simtune":  # noqa: PTH119
        return
    entries = (os.environ.get("PYTHONPATH") or os.sep).split(os.pathsep)
    # Python keeps one of those that are equal as absolute paths.
    times = (started == "-m") + len({os.path.normpath(entry) for entry in filter(_means_here, entries)})
    folders = [path for path in sys.path if not path or os.path.isdir(path)]  # noqa: PTH112
    here = [path for path in folders if not path or os.path.samefile(path, os.curdir)]  # noqa: PTH121
    for path in here[:times]:
        sys.path.remove(path)


# Before any import from a file.
_search_no_working_directory()

from simtune.threads import set_waiting  # noqa: E402

set_waiting()

__version__ = "0.1.0"
