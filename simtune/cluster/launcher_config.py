"""What Ray's launcher is given for a cluster file, checked before anything is created: the launcher fails half-way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

import simtune
from simtune.errors import ConfigError, cut, shown
from simtune.outside_files import MIB, read_outside, text_file_errors
from simtune.ray_token import DEFAULT_FILE, token_file_to_send
from simtune.wording import some

_PLACEHOLDER = "FILL-IN"
_LARGEST_FILE = MIB
_IMAGE_PARAMETER = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"


def launcher_config(path: Path, folder: Path) -> dict[str, Any]:
    """Reads a cluster file and makes of it what the launcher is to be given, without any network.

    That is the file, except that the paths of `file_mounts` are absolute, and that the token's is that of this user's
    token, wherever it is; `ensure_token` has to write it before the launcher is called.

    Args:
        path: of the file.
        folder: the working directory, where the paths of `file_mounts` start. They may also start at the file's folder,
            the one above, or the checkout of this simtune.

    Raises:
        ConfigError: the file cannot be read, still has something to fill in, contradicts itself, or names files to
            send that are not there.
    """
    with text_file_errors(path, "cluster file", ConfigError):
        text = read_outside(path, _LARGEST_FILE).decode()
    try:
        contents, root = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{path}: not YAML ({cut(' '.join(str(error).split()))})") from None
    if root is None or not isinstance(contents, dict) or not isinstance(contents.get("provider"), dict):
        raise ConfigError(f"{path}: not a cluster file for `ray up`; compare it with cluster.yaml of the repository")
    _refuse_placeholders(path, root, contents["provider"])
    if contents["provider"].get("type") == "local":
        _check_addresses(path, contents["provider"])
    mounts = contents.get("file_mounts") or {}
    if not isinstance(mounts, dict):
        raise ConfigError(f"{path}: file_mounts: expected a section of paths there and here, found {shown(mounts)}")
    return {**contents, "file_mounts": _absolute_mounts(path, folder, mounts)}


def _refuse_placeholders(path: Path, root: yaml.Node, provider: dict[str, Any]) -> None:
    found = dict(_placeholders(root, "", set()))
    if not found:
        return
    lines = [f"{path}, line {line}: {field} still has to be filled in" for line, field in sorted(found.items())]
    if any(field.endswith("ImageId") for field in found.values()):
        lines.append(
            "The id of an image with an NVIDIA driver and Python 3.12 is printed by: aws ssm get-parameter --region "
            f"{provider.get('region')} --name {_IMAGE_PARAMETER} --query Parameter.Value --output text"
        )
    raise ConfigError("\n".join([*lines, "The comments in the file say how. Nothing has been created."]))


def _placeholders(node: yaml.Node, field: str, seen: set[int]) -> Iterator[tuple[int, str]]:
    """Lines that still say FILL-IN, and their fields; an alias stands for the line of its anchor."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _placeholders(value, f"{field}.{key.value}".lstrip("."), seen)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _placeholders(value, field, seen)
    elif _PLACEHOLDER in node.value:
        yield node.start_mark.line + 1, field


def _check_addresses(path: Path, provider: dict[str, Any]) -> None:
    """Refuses addresses that Ray would fail on, or start Ray twice on."""
    head, workers = provider.get("head_ip"), provider.get("worker_ips")
    if not isinstance(head, str) or not isinstance(workers, list):
        raise ConfigError(f"{path}: provider: needs head_ip, and worker_ips as a list of addresses")
    twice = sorted({str(host) for host in workers if [head, *workers].count(host) > 1})
    if twice:
        raise ConfigError(f"{path}: {shown(twice[0])} is named twice in head_ip and worker_ips; name it once")


def _absolute_mounts(path: Path, folder: Path, mounts: dict[str, Any]) -> dict[str, str]:
    """Where on the machines, and from where here.

    Raises:
        ConfigError: something is not there. Ray looks only after it has created the head, and names but the path.
    """
    here, checkout = path.absolute().parent, Path(simtune.__file__).parents[1]
    found, missing = {}, []
    for remote, local in mounts.items():
        if remote == DEFAULT_FILE:
            found[remote] = str(token_file_to_send())
            continue
        candidates = [start / Path(str(local)).expanduser() for start in (folder, here, here.parent, checkout)]
        found[str(remote)] = str(next((candidate for candidate in candidates if candidate.exists()), candidates[0]))
        if not Path(found[str(remote)]).exists():
            missing.append(shown(found[str(remote)]))
    if missing:
        raise ConfigError(
            f"{path}: file_mounts: {some(missing)} is not there; run the command in the repository's folder, or change "
            "what is sent to the machines"
        )
    return found
