"""What registries name: objects of simtune by lines of text, and those that installed packages register."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Any, TypeVar

from simtune.errors import ConfigError, ExtensionError, SimtuneError, cut
from simtune.wording import counted

T = TypeVar("T")


def load_lines(package: str, lines: Mapping[str, str]) -> dict[str, Any]:
    """The objects of simtune that the lines of a registry name.

    Args:
        package: in which their modules are, such as `simtune.corpus`.
        lines: by name, the module within the package and the object in it: `demo.source:open_demo`.
    """
    found: dict[str, Any] = {}
    for name, line in lines.items():
        module, _, attribute = line.partition(":")
        found[name] = getattr(importlib.import_module(f"{package}.{module}"), attribute)
    return found


def load_installed(
    group: str, what: str, built_in: Collection[str], accept: Callable[[object], T | None], expected: str
) -> dict[str, T]:
    """Loads the objects of an entry point group.

    Args:
        group: the entry point group, such as `simtune.strategies`.
        what: what messages call one of its objects.
        built_in: names that no package may use.
        accept: the object to register for a loaded one; None where it is of another kind.
        expected: what messages say an object must be.

    Raises:
        ConfigError: a name is used already, or an object cannot be loaded or is of another kind.
    """
    found: dict[str, T] = {}
    for entry in entry_points(group=group):
        where = f"entry point {group}: {entry.name} = {entry.value}"
        if entry.name in built_in or entry.name in found:
            raise ConfigError(f"{where}: there is already a {what} {entry.name!r}; give this one another name")
        try:
            loaded = entry.load()
        except Exception as error:
            raise ConfigError(f"{where}: cannot be loaded ({type(error).__name__}: {error})") from error
        accepted = accept(loaded)
        if accepted is None:
            raise ConfigError(f"{where}: not {expected}")
        found[entry.name] = accepted
    return found


@contextmanager
def failures_named(what: str) -> Iterator[None]:
    """Runs code that may not be simtune's own: what it raises says whose failure it is.

    Args:
        what: what messages call it, with what it works on: `metric 'length', suite 'default'`.

    Raises:
        ExtensionError: it raised an error that says nothing to a user.
    """
    try:
        yield
    except SimtuneError:
        raise
    except Exception as error:
        text = cut(f"{type(error).__name__}: {error}".removesuffix(": "))
        raise ExtensionError(f"{what} failed: {text}. Add --debug for its traceback") from error


def check_one_each(found: Sequence[object], number: int, what: str, thing: str, things: str = "") -> None:
    """Checks that such code returned one thing for each that it was given.

    Raises:
        ExtensionError: it did not.
    """
    if len(found) != number:
        raise ExtensionError(f"{what}: returned {counted(len(found), thing, things)}; expected {number}, one for each")
