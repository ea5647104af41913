"""From data to HTML by the templates in `templates/`.

Jinja2 escapes every value that enters a template. The page has no script, no style but its own sheet, and loads
nothing: its content security policy forbids all three, in case an escape is ever forgotten.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from simtune.report.results_view import clean

COLOUR_STEPS = 22
"""Shades of each of the two colours of a shaded table."""
_MAX_ALPHA = 0.55


@dataclass(frozen=True)
class PagePart:
    """A section of the page: `templates/parts/<anchor>.html`, given `content`."""

    anchor: str
    title: str
    content: object


def render_page(name: str, facts: Sequence[str], parts: Sequence[PagePart]) -> str:
    """The whole page as HTML.

    Args:
        name: the run's.
        facts: a few words each, below the heading.
        parts: in order; the first one has no link at the top.
    """
    environment = _environment()
    style = environment.get_template("style.css").render(colour_steps=COLOUR_STEPS, max_alpha=_MAX_ALPHA)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    # A template of this package, to which no text of a run was given.
    trusted = Markup(style)  # noqa: S704
    return environment.get_template("page.html").render(
        name=name, facts=facts, parts=parts, style=trusted, style_digest=digest
    )


def image_source(svg: bytes) -> str:
    """A picture as the source of an <img>, inside which an SVG can neither run scripts nor load anything."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("simtune.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_without_control_characters,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _without_control_characters(value: object) -> object:
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value
