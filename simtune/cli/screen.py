"""The console that the command line prints tables on."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from simtune.terminal import printable, raw_stream

_WIDTH_OF_A_PIPE = 160


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

    def _render_buffer(self, buffer: Iterable[Segment]) -> str:
        """All output passes through here, whatever object it came from."""
        return super()._render_buffer(map(_shown, buffer))


def _shown(segment: Segment) -> Segment:
    if segment.control:
        return segment
    style = segment.style.update_link(None) if segment.style and segment.style.link else segment.style
    return Segment(printable(segment.text), style)
