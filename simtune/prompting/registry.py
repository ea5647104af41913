"""Prompt formats by name: simtune's own, and those of installed packages.

To add one, write a module with a `Renderer` (see `renderer`) and add its line to `BUILT_IN`; another package
registers the class under the entry point group `simtune.prompts` instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ValidationError, create_model

from simtune.config.encoding import EncodingSettings
from simtune.config.problems import settings_error
from simtune.entry_points import failures_named, load_installed, load_lines
from simtune.errors import ConfigError
from simtune.prompting.installed import InstalledRenderer
from simtune.prompting.renderer import Renderer
from simtune.wording import nearest

ENTRY_POINTS = "simtune.prompts"

BUILT_IN = {
    "tk-instruct": "tk_instruct:TkInstruct",
}
"""Name -> module of this folder and the renderer in it."""

RENDERERS: Mapping[str, type[Renderer[Any]]] = MappingProxyType(load_lines("simtune.prompting", BUILT_IN))


def all_renderers() -> dict[str, type[Renderer[Any]]]:
    """Every prompt format by name, those of installed packages last."""
    return {**RENDERERS, **_installed()}


def make_renderer(encoding: EncodingSettings, where: str = "encoding") -> Renderer[Any]:
    """The prompt format that a section of the sweep file names, with its settings.

    Args:
        encoding: the section.
        where: its dotted name in the sweep file.

    Raises:
        ConfigError: there is no such format, or a key or a value of the section is wrong.
    """
    renderers = RENDERERS if encoding.format in RENDERERS else all_renderers()
    if encoding.format not in renderers:
        hint = nearest(encoding.format, renderers) or "."
        raise ConfigError(
            f"unknown prompt format {encoding.format!r}{hint} Known: {', '.join(renderers)}", field=f"{where}.format"
        )
    renderer = renderers[encoding.format]
    given = encoding.format_settings
    try:
        settings = renderer.Settings.model_validate(given)
    except ValidationError as error:
        section = _section_of(renderer)
        raise settings_error(error, section, given, lambda path: ".".join([where, *map(str, path)])) from None
    if encoding.format in RENDERERS:
        return renderer(settings)
    with failures_named(f"prompt format {encoding.format}"):
        return InstalledRenderer(encoding.format, renderer(settings))


def resolve_encoding(encoding: EncodingSettings, where: str = "encoding") -> EncodingSettings:
    """The same encoding with every setting of its format written out.

    Raises:
        ConfigError: see `make_renderer`.
    """
    settings = make_renderer(encoding, where).settings
    return EncodingSettings(
        format=encoding.format, end_of_source=encoding.end_of_source, **settings.model_dump(mode="json")
    )


def _section_of(renderer: type[Renderer[Any]]) -> type[BaseModel]:
    """Everything that an `encoding` section with this format may have."""
    return create_model("Encoding", __base__=(renderer.Settings, EncodingSettings))


@cache
def _installed() -> dict[str, type[Renderer[Any]]]:
    def accept(loaded: object) -> type[Renderer[Any]] | None:
        return loaded if isinstance(loaded, type) and issubclass(loaded, Renderer) else None

    expected = "a subclass of simtune.prompting.renderer.Renderer"
    return load_installed(ENTRY_POINTS, "prompt format", RENDERERS, accept, expected)
