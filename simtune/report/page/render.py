"""From data to HTML by the templates in `templates/`, with the scripts and the style sheet of `assets/`.

Jinja2 escapes every value that enters a template. The page loads nothing and runs only scripts whose hashes its content
security policy names, all of this package or of Vega, in case an escape is ever forgotten. Without scripts it shows the
same tables, and figures as pictures.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from simtune.report.page.page_data import page_json
from simtune.report.results_view import clean

COLOUR_STEPS = 22
"""Shades of each of the two colours of a shaded table."""
_MAX_ALPHA = 0.55
SCRIPTS = ("state.js", "tooltip.js", "chooser.js", "figures.js", "trials.js", "panel.js", "main.js")
"""In the order in which the page runs them."""


@dataclass(frozen=True)
class PagePart:
    """A section of the page: `templates/parts/<anchor>.html`, given `content`."""

    anchor: str
    title: str
    content: object


@dataclass(frozen=True)
class PageScripts:
    """What the page's scripts need.

    Attributes:
        library: the charting library's JavaScript.
        licence: of the library, one line.
        data: becomes JSON.
        has_files: whether there are files beside the page.
    """

    library: str
    licence: str
    data: object
    has_files: bool = False


def render_page(name: str, facts: Sequence[str], parts: Sequence[PagePart], scripts: PageScripts) -> str:
    """The whole page as HTML.

    Args:
        name: the run's.
        facts: a few words each, below the heading.
        parts: in order; the first one has no link at the top.
        scripts: what makes it interactive.
    """
    style = _style()
    texts = [scripts.library, *map(_asset, SCRIPTS)]
    return (
        _environment()
        .get_template("page.html")
        .render(
            name=name,
            facts=facts,
            parts=parts,
            style=_trusted(style),
            style_digest=_digest(style),
            scripts=[_trusted(text) for text in texts],
            script_digests=[_digest(text) for text in texts],
            licence=scripts.licence,
            data=page_json(scripts.data),
            has_files=scripts.has_files,
        )
    )


def answers_page(data: object) -> str:
    """A file beside the page that hands data to it."""
    script = _asset("answers.js")
    template = _environment().get_template("answers.html")
    return template.render(script=_trusted(script), digest=_digest(script), data=page_json(data))


def image_source(svg: bytes) -> str:
    """A picture as the source of an <img>, inside which an SVG can neither run scripts nor load anything."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def _trusted(text: str) -> Markup:
    """A file of this package or of a library, to which no text of a run was given."""
    return Markup(text)  # noqa: S704


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _asset(name: str) -> str:
    return (files("simtune.report.page") / "assets" / name).read_text(encoding="utf-8")


@cache
def _style() -> str:
    """The style sheet, with a rule for each shade: the policy allows no colour at an element."""
    shades = [
        f".{side}{step} {{ background: rgba(var(--{side}), {_MAX_ALPHA * step / COLOUR_STEPS:.3f}); }}"
        for side in ("up", "down")
        for step in range(1, COLOUR_STEPS + 1)
    ]
    return "\n".join([_asset("style.css"), *shades, ""])


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("simtune.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_without_control_characters,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _without_control_characters(value: object) -> object:
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value
