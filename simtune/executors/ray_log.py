"""What Ray itself says in the driver's process goes into a file of the run, `ray.log`, not to the terminal.

Ray prints tracebacks and advice of many lines for a lost host or process, of which simtune reports what matters.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import deque
from pathlib import Path

from simtune.errors import StoreError
from simtune.redaction import redact
from simtune.storage.files import AnyPath, write_text
from simtune.terminal import printable

RAY_LOG = "ray.log"

# Neither through a link, which others may have put there, nor into a pipe that nobody reads.
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
# An object is written at once, at the end.
_LINES_IN_MEMORY = 10_000


class RayLog(logging.Handler):
    """Ray's messages, in a file once there is a run directory."""

    def __init__(self) -> None:
        """Has no file yet: messages are not taken."""
        super().__init__()
        self._path: AnyPath | None = None
        self._lines: deque[str] = deque(maxlen=_LINES_IN_MEMORY)
        self._before: list[logging.Handler] = []

    def write_to(self, run_directory: AnyPath) -> None:
        """Takes messages from now on; on a disk, as soon as the directory exists."""
        self._path = run_directory / RAY_LOG

    def take(self, text: str) -> bool:
        """Writes a message with the time; False if it has to be shown elsewhere."""
        if self._path is None or (isinstance(self._path, Path) and not self._path.parent.is_dir()):
            return False
        lines = printable(redact(text)).rstrip("\n")
        stamped = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {lines}\n"
        if not isinstance(self._path, Path):
            self._lines.append(stamped)
            return True
        try:
            with os.fdopen(os.open(self._path, _APPEND, 0o666), "a", encoding="utf-8") as file:
                file.write(stamped)
        except OSError:
            return False
        return True

    def emit(self, record: logging.LogRecord) -> None:
        if not self.take(self.format(record)):
            for handler in self._before:
                handler.handle(record)

    def replace_handlers(self, logger: logging.Logger) -> None:
        """Takes what is logged there; what it cannot take, goes where it went before."""
        self._before = [handler for handler in logger.handlers if handler is not self]
        logger.handlers = [self]

    def restore_handlers(self, logger: logging.Logger) -> None:
        """Ends what `replace_handlers` began."""
        if self in logger.handlers:
            logger.handlers = self._before

    def close(self) -> None:
        """Writes the messages, if the run is in an object store."""
        if self._path is not None and self._lines:
            # It is only a log, and an error here must not replace the one that ends the run.
            with contextlib.suppress(StoreError):
                write_text(self._path, "".join(self._lines))
            self._lines.clear()
        super().close()
