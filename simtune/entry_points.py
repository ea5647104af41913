"""What installed packages register with simtune: objects by name, under an entry point group for each kind."""

from __future__ import annotations

from collections.abc import Callable, Collection
from importlib.metadata import entry_points
from typing import Any, TypeVar

from simtune.errors import ConfigError

T = TypeVar("T")


def load_installed(
    group: str, what: str, built_in: Collection[str], accept: Callable[[Any], T | None], expected: str
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
            raise ConfigError(f"{where}: there already is a {what} {entry.name!r}; give this one another name")
        try:
            loaded = entry.load()
        except Exception as error:
            raise ConfigError(f"{where}: cannot be loaded ({type(error).__name__}: {error})") from error
        accepted = accept(loaded)
        if accepted is None:
            raise ConfigError(f"{where}: not {expected}")
        found[entry.name] = accepted
    return found
