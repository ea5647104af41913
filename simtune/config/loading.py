"""From a YAML file and `--set` overrides to a `Sweep`; every error names file, line and dotted field.

YAML's own surprises are taken out: a key given twice is an error (YAML keeps the last one silently), and `1e-3`
is a number (YAML 1.1 reads it as text).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from simtune.config.selection import ArmSettings
from simtune.config.settings import Sweep
from simtune.errors import ConfigError

FieldPath = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses repeated keys and reads `1e-3` as a float."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a text", key_node.start_mark)
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key_node.value!r} is given twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {key: list(value) for key, value in yaml.SafeLoader.yaml_implicit_resolvers.items()}


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes a text which the loader would take for a number."""


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
    )


def load_sweep(path: Path, overrides: Sequence[str] = (), storage: str | None = None) -> Sweep:
    """Reads a sweep file, applies overrides of the form `a.b=value` in order, and checks the whole.

    Relative paths in the result are made absolute against the working directory, because workers run elsewhere.

    Raises:
        ConfigError: with file, line, field, the value, and the nearest right name for an unknown one.
    """
    settings, lines = _read_yaml(path)
    settings.setdefault("name", path.stem)
    overridden: dict[str, str] = {}
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key:
            raise ConfigError(f"--set {override!r}: not of the form section.field=value")
        set_value(settings, key, parse_value(text, f"--set {override}"), where=f"--set {override}")
        overridden[key] = f"--set {override}"
    if storage is not None:
        settings["storage"] = storage

    def locate(field: FieldPath) -> str:
        dotted = ".".join(map(str, field))
        for key, where in overridden.items():
            if dotted == key or dotted.startswith(f"{key}."):
                return f"{where}: {dotted}"
        for length in range(len(field), 0, -1):
            if field[:length] in lines:
                return f"{path}, line {lines[field[:length]]}: {dotted}"
        # An unknown section that only an override names.
        for key, where in overridden.items():
            if dotted and key.startswith(f"{dotted}."):
                return f"{where}: {dotted}"
        return f"{path}: {dotted}" if dotted else str(path)

    sweep = validate(settings, locate)
    return _with_absolute_paths(sweep)


def dump_sweep(sweep: Sweep) -> str:
    """The resolved sweep as YAML with every default written out; loading it gives the same sweep."""
    return yaml.dump(sweep.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def parse_value(text: str, where: str) -> Any:
    """An override's value, read as YAML: numbers, lists such as `[10, 50]`, null, text."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: {text!r} is not a YAML value ({_yaml_reason(error)})") from None


def set_value(settings: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Sets the dotted `key` in nested settings, making sections on the way.

    Raises:
        ConfigError: a part of the key goes through something that is no section.
    """
    *sections, field = key.split(".")
    if len(key.split(".")) > 1 and sections[0] == "grid":
        sections, field = ["grid"], key.partition(".")[2]
    node = settings
    for depth, section in enumerate(sections, start=1):
        if node.get(section) is None:
            node[section] = {}
        node = node[section]
        if not isinstance(node, dict):
            raise ConfigError(f"{where}: {'.'.join(sections[:depth])} is a value, not a section")
    node[field] = value


def validate(settings: dict[str, Any], locate: Callable[[FieldPath], str]) -> Sweep:
    """Checks settings against the models, turning every complaint into one readable line.

    Raises:
        ConfigError: one line a problem.
    """
    try:
        return Sweep.model_validate(settings)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        lines = []
        for problem in problems:
            if problem["type"] == "too_short" and any(_is_inside(other, problem) for other in problems):
                # A list all of whose values are wrong counts as empty; the values' own complaints say more.
                continue
            line = _describe(problem, locate)
            if line not in lines:
                lines.append(line)
        raise ConfigError("\n".join(lines)) from None


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[FieldPath, int]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such sweep file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: a folder, not a sweep file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from None
    try:
        node = yaml.compose(text, _Loader)
        settings = yaml.load(text, _Loader)
        lines: dict[FieldPath, int] = {}
        _collect_lines(node, (), lines)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}{_yaml_position(error)}: not valid YAML ({_yaml_reason(error)})") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply for a sweep file") from None
    if not isinstance(settings, dict):
        found = "nothing" if settings is None else type(settings).__name__
        raise ConfigError(f"{path}: a sweep file is a mapping (name: ..., corpus: ...), found {found}")
    return settings, lines


def _collect_lines(node: yaml.Node | None, path: FieldPath, lines: dict[FieldPath, int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            lines[(*path, key.value)] = key.start_mark.line + 1
            _collect_lines(value, (*path, key.value), lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*path, index)] = value.start_mark.line + 1
            _collect_lines(value, (*path, index), lines)


def _yaml_position(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _yaml_reason(error: yaml.YAMLError) -> str:
    return getattr(error, "problem", None) or str(error).splitlines()[0]


def _describe(problem: Any, locate: Callable[[FieldPath], str]) -> str:
    kind, value = problem["type"], problem["input"]
    # Members of a union appear in pydantic's path as pseudo-fields such as `constrained-int`.
    field = tuple(part for part in problem["loc"] if isinstance(part, int) or _is_field_name(part))
    where = locate(field)
    if kind == "extra_forbidden":
        section = _section(field[:-1])
        names = list(section.model_fields) if section else []
        hint = _nearest(str(field[-1]), names) or "."
        return f"{where}: unknown key{hint} Known here: {', '.join(names)}"
    if kind == "missing":
        return f"{where}: missing"
    if kind == "value_error":
        return f"{where}: {problem['ctx']['error']}"
    message = problem["msg"][0].lower() + problem["msg"][1:]
    hint = ""
    if kind == "literal_error" and isinstance(value, str):
        hint = _nearest(value, re.findall(r"'([^']+)'", problem["ctx"]["expected"]))
    return f"{where}: {value!r} is wrong ({message}){hint}"


def _is_inside(problem: Any, outer: Any) -> bool:
    return len(problem["loc"]) > len(outer["loc"]) and problem["loc"][: len(outer["loc"])] == outer["loc"]


def _is_field_name(part: str) -> bool:
    return re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*", part) is not None and part not in {
        "int",
        "float",
        "str",
    }


def _section(path: FieldPath) -> type[BaseModel] | None:
    model: type[BaseModel] = Sweep
    for part in path:
        annotation = model.model_fields[str(part)].annotation if str(part) in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return None
        model = annotation
    return model


def _nearest(word: str, names: Sequence[str]) -> str:
    from rapidfuzz import fuzz, process

    match = process.extractOne(word, names, scorer=fuzz.WRatio, score_cutoff=60)
    return f"; did you mean {match[0]!r}?" if match else ""


def _with_absolute_paths(sweep: Sweep) -> Sweep:
    def absolute(text: str) -> str:
        return str(Path(text).expanduser().absolute())

    def local(text: str | None) -> str | None:
        """Hub names stay as they are; folders that exist here become absolute."""
        return absolute(text) if text is not None and Path(text).expanduser().exists() else text

    def absolute_list(arm: ArmSettings) -> ArmSettings:
        parameters = arm.parameters
        if arm.strategy == "list" and "file" in parameters:
            parameters = parameters | {"file": absolute(str(parameters["file"]))}
        return arm.model_copy(update={"parameters": parameters})

    corpus = sweep.corpus
    if corpus.path != "demo":
        corpus = corpus.model_copy(update={"path": absolute(corpus.path)})
    return sweep.model_copy(
        update={
            "corpus": corpus,
            "selection": sweep.selection.model_copy(
                update={"strategies": tuple(map(absolute_list, sweep.selection.strategies))}
            ),
            "embedding": sweep.embedding.model_copy(update={"encoder": local(sweep.embedding.encoder)}),
            "model": sweep.model.model_copy(
                update={"name": local(sweep.model.name), "tokenizer": local(sweep.model.tokenizer)}
            ),
            "storage": absolute(sweep.storage),
        }
    )
