"""YAML as sweep files and `--set` use it: plain values; what readers of YAML disagree on is refused.

A key given twice is an error (YAML keeps the last one silently), tags and merge keys are refused, and what a value
without quotes means is decided by `plain_scalars`. Aliases may be used, but a file of kilobytes must not
expand to gigabytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml

from simtune.config.fields import FieldPath
from simtune.config.plain_scalars import INTEGER, NUMBER, refusal_reason
from simtune.errors import cut, shown

# A second of reading for every 50,000 or so.
_MOST_CHARACTERS = 1 << 19
_MOST_FIELDS = 100_000

_YAML = "tag:yaml.org,2002:"
_TEXT = f"{_YAML}str"
_WORDS = {"null": f"{_YAML}null", "true": f"{_YAML}bool", "false": f"{_YAML}bool"}
_REFUSED = "refused"
_TAGGED = "tagged"


class YamlTextError(ValueError):
    """A text is not YAML of this kind; `position` is `, line L, column C` or empty, `field` dotted or empty."""

    def __init__(self, reason: str, position: str = "", field: str = "") -> None:
        super().__init__(reason)
        self.position = position
        self.field = field


class _JsonValues:
    """Tags of values without quotes, for reading and for writing."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        if kind is not yaml.ScalarNode or not implicit[0]:
            return {yaml.ScalarNode: _TEXT, yaml.SequenceNode: f"{_YAML}seq", yaml.MappingNode: f"{_YAML}map"}[kind]
        if refusal_reason(value) is not None:
            return _REFUSED
        if value in _WORDS:
            return _WORDS[value]
        if NUMBER.fullmatch(value):
            return f"{_YAML}int" if INTEGER.fullmatch(value) else f"{_YAML}float"
        return _TEXT


class _Loader(_JsonValues, yaml.SafeLoader):
    """SafeLoader that knows JSON's values only, marks what has a tag, and refuses repeated keys."""

    def _next_tag(self) -> Any:
        peek: Callable[[], Any] = self.peek_event
        return peek().tag

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        tag = self._next_tag()
        node: yaml.ScalarNode = self._marked(super().compose_scalar_node(anchor), tag)
        return node

    def compose_sequence_node(self, anchor: Any) -> yaml.SequenceNode:
        tag = self._next_tag()
        node: yaml.SequenceNode = self._marked(super().compose_sequence_node(anchor), tag)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        tag = self._next_tag()
        node: yaml.MappingNode = self._marked(super().compose_mapping_node(anchor), tag)
        return node

    @staticmethod
    def _marked(node: yaml.Node, tag: str | None) -> Any:
        if tag is not None:
            node.tag = _TAGGED
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (yaml.YAMLError, RecursionError):
            raise
        # Left to int(), which refuses thousands of digits.
        except Exception as error:
            reason = f"{shown(node.value, 60)} cannot be read as {node.tag.rpartition(':')[2]}"
            raise yaml.constructor.ConstructorError(None, None, reason, node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _TEXT:
                reason = "a key must be a string; write it with quotes where it looks like a number or a word of YAML"
                raise yaml.constructor.ConstructorError(None, None, reason, key_node.start_mark)
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {shown(key_node.value)} is given twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


class _Dumper(_JsonValues, yaml.SafeDumper):
    """SafeDumper that quotes a text which the loader would not read as the same text."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # YAML 1.1 ends a line at NEL and reads it as a space; between double quotes it is escaped.
        return self.represent_scalar(_TEXT, data, style='"' if "\x85" in data else None)


_Dumper.add_representer(str, _Dumper.represent_str)


def read_yaml(text: str) -> tuple[Any, dict[FieldPath, int]]:
    """The value of a YAML text, and the line of each of its fields.

    Raises:
        YamlTextError: not YAML, a key twice or not a text, a value that YAML readers differ on (see `plain_scalars`), a
            tag, too large or too deep.
    """
    if len(text) > _MOST_CHARACTERS:
        raise YamlTextError(f"{len(text):,} characters; a sweep file has at most {_MOST_CHARACTERS:,}")
    lines: dict[FieldPath, int] = {}
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        # Before values are made: aliases copy what they name.
        _collect_lines(node, (), lines)
        return (None if node is None else loader.construct_document(node)), lines
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise YamlTextError(reason, _position(mark) if mark else "") from None
    except RecursionError:
        raise YamlTextError("nested too deeply, or inside itself") from None


def write_yaml(value: object, in_one_line: bool = False) -> str:
    """YAML that `read_yaml` reads as the same value; in one line as `{key: value}`."""
    if in_one_line:
        return _dumped(value, default_flow_style=True, width=float("inf")).rstrip("\n")
    return _dumped(value, width=110)


def _dumped(value: Any, **style: Any) -> str:
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, **style)
    return text


def _collect_lines(node: yaml.Node | None, path: FieldPath, lines: dict[FieldPath, int]) -> None:
    if len(lines) > _MOST_FIELDS:
        raise YamlTextError(f"expands to more than {_MOST_FIELDS:,} fields")
    _refuse_ambiguous(node, path)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            # What no value can be made of is refused when values are made.
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            _refuse_ambiguous(key, path)
            lines[(*path, name)] = key.start_mark.line + 1
            _collect_lines(value, (*path, name), lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*path, index)] = value.start_mark.line + 1
            _collect_lines(value, (*path, index), lines)


def _refuse_ambiguous(node: yaml.Node | None, path: FieldPath) -> None:
    if node is None or node.tag not in (_REFUSED, _TAGGED):
        return
    reason = refusal_reason(node.value) if node.tag == _REFUSED else "has a tag (!...); write the value without one"
    raise YamlTextError(reason or "", _position(node.start_mark), cut(".".join(map(str, path))))


def _position(mark: yaml.Mark) -> str:
    return f", line {mark.line + 1}, column {mark.column + 1}"
