"""Where each field of a sweep comes from: a line of its file, or an option of the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from simtune.config.fields import FieldPath
from simtune.errors import UserError, cut


@dataclass(frozen=True)
class Origins:
    """Where the fields of a sweep come from.

    Attributes:
        path: the sweep file.
        lines: of the file's fields.
        overridden: dotted fields that the command line sets, with the option that does.
        swept: the grid's keys by the dotted fields that they set.
    """

    path: str
    lines: Mapping[FieldPath, int]
    overridden: Mapping[str, str]
    swept: Mapping[str, str]

    def with_option(self, field: str, option: str) -> Origins:
        """These origins with a field that an option of the command line sets instead of the file."""
        return replace(self, overridden={field: cut(option), **self.overridden})

    @contextmanager
    def in_errors(self) -> Iterator[None]:
        """Adds origins to errors that name fields of this sweep.

        What a field must be is often known only to the code that uses it, long after the file was read. That code
        raises a `UserError` with the field's name.
        """
        try:
            yield
        except UserError as error:
            located = error.with_origins(self.of_dotted)
            if str(located) == str(error):
                raise
            raise located from error

    def locate(self, field: FieldPath) -> str:
        """What a message calls a field: its origin and its dotted name."""
        dotted = cut(".".join(map(str, field)))
        origin = self._find(field) or self.path
        return f"{origin}: {dotted}" if dotted else origin

    def of_dotted(self, field: str) -> str:
        """The origin of a field, or of the section around it; empty for anything that is not in the sweep file.

        For a field that the grid sets, the origin is the one in `grid`.
        """
        if not field:
            return ""
        parts = field.split(".")
        if parts[0] == "grid":
            key = ".".join(parts[1:])
            return self._find(("grid", self.swept.get(key, key)) if key else ("grid",))
        for length in range(len(parts), 0, -1):
            dotted = ".".join(parts[:length])
            swept = ("grid", self.swept.get(dotted, dotted))
            if swept in self.lines or ".".join(swept) in self.overridden:
                return self._find(swept)
        path = tuple(int(part) if part.isdecimal() else part for part in parts)
        return self._find(path) or self._find(_without_positions(path))

    def _find(self, field: FieldPath) -> str:
        dotted = ".".join(map(str, field))
        for key, option in self.overridden.items():
            if dotted == key or dotted.startswith(f"{key}."):
                return option
        # A section that only an override names is not in the file, though the section around it may be.
        for key, option in self.overridden.items() if field not in self.lines else ():
            if dotted and key.startswith(f"{dotted}."):
                return option
        if field not in self.lines and _without_positions(field) in self.lines:
            field = _without_positions(field)
        for length in range(len(field), 0, -1):
            if field[:length] in self.lines:
                line = f"{self.path}, line {self.lines[field[:length]]}"
                return " and ".join([line, *(self._set_values(dotted) if length == len(field) else ())])
        return ""

    def _set_values(self, dotted: str) -> Iterator[str]:
        """The options that set values of a list."""
        for key, option in self.overridden.items():
            position, *_ = key.removeprefix(f"{dotted}.").split(".")
            if key.startswith(f"{dotted}.") and position.isdecimal():
                yield option


def _without_positions(field: FieldPath) -> FieldPath:
    """A field's path in a single value that stands for a list."""
    return tuple(part for part in field if isinstance(part, str))
