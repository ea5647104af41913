"""YAML as sweep files and `--set` use it: plain values, every surprise of the format refused.

A key given twice is an error (YAML keeps the last one silently), and `1e-3` is a number (YAML 1.1 reads it as text).
Aliases may be used, but not to write a file of kilobytes that stands for gigabytes.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from simtune.errors import shown

FieldPath = tuple[str | int, ...]

# A second of reading for every 50,000 or so.
_MOST_CHARACTERS = 1 << 19
_MOST_FIELDS = 100_000


class YamlTextError(ValueError):
    """A text is not YAML of this kind; `position` is `, line L, column C` or empty."""

    def __init__(self, reason: str, position: str = "") -> None:
        super().__init__(reason)
        self.position = position


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses repeated keys and reads `1e-3` as a float."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (yaml.YAMLError, RecursionError):
            raise
        # Left to int(), date() and the like, which refuse `2001-13-01` or `!!bool x` each in its own way.
        except Exception as error:
            reason = f"{shown(node.value, 60)} cannot be read as {node.tag.rpartition(':')[2]}"
            raise yaml.constructor.ConstructorError(None, None, reason, node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a text", key_node.start_mark)
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {shown(key_node.value)} is given twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {key: list(value) for key, value in yaml.SafeLoader.yaml_implicit_resolvers.items()}


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes a text which the loader would take for a number, or for a line less or more."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # YAML 1.1 ends a line at NEL and reads it as a space; between double quotes it is escaped.
        return self.represent_scalar("tag:yaml.org,2002:str", data, style='"' if "\x85" in data else None)


_Dumper.add_representer(str, _Dumper.represent_str)

for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
    )


def read_yaml(text: str) -> tuple[Any, dict[FieldPath, int]]:
    """The value of a YAML text, and the line of each of its fields.

    Raises:
        YamlTextError: not YAML, a key twice or not a text, an impossible number or date, too large or too deep.
    """
    if len(text) > _MOST_CHARACTERS:
        raise YamlTextError(f"{len(text):,} characters; more than {_MOST_CHARACTERS:,} are no settings")
    lines: dict[FieldPath, int] = {}
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        # Before values are made: merge keys (`<<`) copy what they name.
        _collect_lines(node, (), lines)
        return (None if node is None else loader.construct_document(node)), lines
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise YamlTextError(reason, f", line {mark.line + 1}, column {mark.column + 1}" if mark else "") from None
    except RecursionError:
        raise YamlTextError("nested too deeply, or inside itself") from None


def write_yaml(value: Any) -> str:
    """YAML that `read_yaml` reads as the same value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _collect_lines(node: yaml.Node | None, path: FieldPath, lines: dict[FieldPath, int]) -> None:
    if len(lines) > _MOST_FIELDS:
        raise YamlTextError(f"stands for more than {_MOST_FIELDS:,} fields")
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            # What no value can be made of is refused when values are made.
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            lines[(*path, name)] = key.start_mark.line + 1
            _collect_lines(value, (*path, name), lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*path, index)] = value.start_mark.line + 1
            _collect_lines(value, (*path, index), lines)
