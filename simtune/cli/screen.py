"""The console that the command line prints tables on."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from simtune.storage.files import AnyPath
from simtune.terminal import printable, raw_stream

_WIDTH_OF_A_PIPE = 160
# A file of this machine, whatever is special in its name escaped.
_OWN_LINK = re.compile(r"file:///[A-Za-z0-9/._~%+-]*")


class Screen(Console):
    """A rich console that shows control characters as escapes; see `simtune.terminal`."""

    def __init__(self, err: bool = False) -> None:
        stream = sys.stderr if err else sys.stdout
        # A pipe has no width, and a table squeezed into 80 columns would lose numbers.
        width = None if err or stream.isatty() else _WIDTH_OF_A_PIPE
        super().__init__(file=raw_stream(stream), width=width, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        # Before the layout, so that columns are as wide as the text that is shown.
        return super().render_str(printable(text), **options)

    def print_path(self, label: str, path: AnyPath) -> None:
        """Prints a path, on a terminal as a link that opens the file."""
        link = f"link {path.resolve().as_uri()}" if self.is_terminal and isinstance(path, Path) else ""
        self.print(Text(f"{label}: ") + Text(printable(str(path)), style=link), soft_wrap=True)

    def _render_buffer(self, buffer: Iterable[Segment]) -> str:
        """All output passes through here, whatever object it came from."""
        return super()._render_buffer(map(_shown, buffer))


def _shown(segment: Segment) -> Segment:
    if segment.control:
        return segment
    style = segment.style
    if style and style.link and not _OWN_LINK.fullmatch(style.link):
        style = style.update_link(None)
    return Segment(printable(segment.text), style)
