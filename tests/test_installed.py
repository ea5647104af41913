"""Entry points of other packages that no registry can use are refused by name, and say why."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from plugins import installed_entry

from simtune.config import EncodingSettings
from simtune.corpus import registry as corpus_formats
from simtune.errors import ConfigError
from simtune.prompting import registry as prompt_formats

REGISTRIES: dict[str, tuple[ModuleType, Callable[[], Any]]] = {
    "corpus": (corpus_formats, lambda: corpus_formats.open_corpus("demo")),
    "prompt": (prompt_formats, lambda: prompt_formats.make_renderer(EncodingSettings(format="x"))),
}


@pytest.mark.parametrize(
    ("registry", "entry", "message"),
    [
        ("corpus", "demo = a:b", "there is already a corpus format 'demo'"),
        ("corpus", "x = no_such_module:b", "x = no_such_module:b: cannot be loaded"),
        ("corpus", "x = simtune:__name__", "not a function from a path to a corpus"),
        ("prompt", "tk-instruct = a:b", "there is already a prompt format 'tk-instruct'"),
        ("prompt", "x = no_such_module:b", "x = no_such_module:b: cannot be loaded"),
        ("prompt", "x = json:dumps", "not a subclass of simtune.prompting.renderer.Renderer"),
    ],
)
def test_a_wrong_entry_point_is_refused(registry: str, entry: str, message: str) -> None:
    module, use = REGISTRIES[registry]
    name, value = entry.split(" = ")
    with installed_entry(module, name, value), pytest.raises(ConfigError, match=message):
        use()
