"""What a model's folder must not request: code of its own, pickles, or files from elsewhere.

The libraries that load models also get the option not to run code. But the files that they read can set some of their
options, so a folder is searched before they read it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from simtune.errors import ModelError, cut
from simtune.outside_files import GIB, read_outside, refuse_special

# Data files, of several megabytes.
_DATA_FILES = {"tokenizer.json", "vocab.json", "added_tokens.json", "special_tokens_map.json"}
_MODULE = re.compile(
    r"sentence_transformers(\.[a-z_]+)*\.(Transformer|Pooling|Normalize|Dense|LayerNorm|Dropout|StaticEmbedding)"
)
_LONGEST_NAME = 255
_WEIGHTS = re.compile(r"[^/\\]+\.safetensors")
# The library looks for it under several names.
_ENCODER_SETTINGS = re.compile(r"sentence_[a-z-]+_config\.json")
_PLACE = re.compile("(_file|_path|_dir|^subfolder|^revision)$")
_PICKLED = ("pytorch_model*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


def refuse_code(folder: Path, field: str) -> None:
    """Searches the folder of a model, tokenizer or encoder, and the folders of its modules.

    Links may lead out of it, since the hub's cache consists of them.

    Args:
        folder: as its owner published it.
        field: the setting that named it, for the message.

    Raises:
        ModelError: the folder requests code, pickled weights or another repository, or contains a pipe, a socket or a
            device; names the file.
    """
    try:
        refuse_special((*folder.glob("*"), *folder.glob("*/*")))
    except OSError as error:
        raise ModelError(f"{error.filename}: cannot be read ({error.strerror})", field=field) from None
    for path in sorted({*folder.glob("*.json"), *folder.glob("*/*.json")} - _data_files(folder)):
        try:
            settings = json.loads(read_outside(path, GIB))
        except (OSError, ValueError, RecursionError):
            # The code that needs the file reports what is wrong with it.
            continue
        reason = _wrong_module(folder, settings) if path.name == "modules.json" else _wrong(path.name, settings)
        if reason is not None:
            raise ModelError(
                f"{path} requests {reason}; simtune never runs a model's code or reads its pickles, and reads nothing "
                "outside its folder. Use a model that needs none of that: with weights in model.safetensors, its "
                "settings in config.json, and without classes of its own",
                field=field,
            )


def pickled_weights(folder: Path) -> list[Path]:
    """Files of a folder in formats that can run code when they are read."""
    return sorted(path for pattern in _PICKLED for path in folder.glob(pattern))


def _data_files(folder: Path) -> set[Path]:
    return {path for name in _DATA_FILES for path in (folder / name, *folder.glob(f"*/{name}"))}


def _wrong(file: str, settings: object) -> str | None:
    if file == "adapter_config.json":
        return "another model, since it is an adapter"
    wrong = [_wrong_code, _wrong_weights, *([_wrong_place] if _ENCODER_SETTINGS.fullmatch(file) else [])]
    return next(filter(None, (rule(*item) for item in _settings(settings) for rule in wrong)), None)


def _wrong_place(key: str, value: object) -> str | None:
    """Paths in an encoder's settings, which sentence-transformers passes on unchecked."""
    if isinstance(value, str) and value and _PLACE.search(key):
        return f"files that are not in its folder ({key}: {value})"
    return None


def _wrong_code(key: str, value: object) -> str | None:
    if key == "auto_map":
        return "code of its own (auto_map)"
    if key == "configuration_files" and value:
        return f"other settings than those in config.json ({key}: {value})"
    if key == "trust_remote_code" and value:
        return "code of its own (trust_remote_code)"
    if key.strip("_").startswith(("attn_implementation", "experts_implementation")) and "/" in json.dumps(value):
        return f"compiled code from the hub ({key}: {value})"
    if key in {"use_kernels", "kernel_config"} and value:
        return f"compiled code from the hub ({key})"
    if key == "activation_function" and "." in str(value) and not str(value).startswith("torch.nn.modules."):
        return f"code of its own ({key}: {value})"
    return None


def _wrong_weights(key: str, value: object) -> str | None:
    if key in {"weights_only", "use_safetensors"} and value is not True:
        return f"pickled weights ({key}: {value})"
    # Both name files that are read instead of model.safetensors.
    if key == "weight_map" and isinstance(value, Mapping):
        named = list(value.values())
    elif key == "transformers_weights" and value is not None:
        named = [value]
    else:
        return None
    others = [str(name) for name in named if not _WEIGHTS.fullmatch(str(name))]
    return f"weights that are not a safetensors file in the folder ({others[0]})" if others else None


def _wrong_module(folder: Path, modules: object) -> str | None:
    for module in modules if isinstance(modules, list) else [modules]:
        fields = module if isinstance(module, dict) else {}
        class_name, path = (str(fields.get(key, "")) for key in ("type", "path"))
        if not _MODULE.fullmatch(class_name):
            return f"a module unknown to simtune ({class_name or module})"
        if path in {".", ".."} or "/" in path.rstrip("/") or "\\" in path or len(path) > _LONGEST_NAME:
            return f"a module outside its folders ({cut(path)})"
        if (folder / path).is_symlink() and folder.resolve().is_relative_to((folder / path).resolve()):
            return f"a module that is a link out of its folder ({path})"
        if path and (pickles := pickled_weights(folder / path)) and not (folder / path / "model.safetensors").exists():
            return f"pickled weights ({path}/{pickles[0].name})"
    return None


def _settings(value: object) -> Iterator[tuple[str, object]]:
    """Every key of nested settings with its value."""
    pending = [value]
    while pending:
        current = pending.pop()
        if isinstance(current, Mapping):
            yield from current.items()
            pending += current.values()
        elif isinstance(current, list):
            pending += current
