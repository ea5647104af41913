"""What a model's folder may not ask for: code of its own, pickles, or files from elsewhere.

The libraries that load models are told not to run code either; but some of their switches can be set by the files they
read, so a folder is looked through before they see it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from simtune.errors import ModelError
from simtune.outside_files import GIB, read_outside, refuse_special

# Data, and megabytes of it.
_NO_SETTINGS = {"tokenizer.json", "vocab.json", "added_tokens.json", "special_tokens_map.json"}
_MODULE = re.compile(
    r"sentence_transformers(\.[a-z_]+)*\.(Transformer|Pooling|Normalize|Dense|LayerNorm|Dropout|StaticEmbedding)"
)
_PICKLED = ("pytorch_model*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


def refuse_code(folder: Path, field: str) -> None:
    """Looks through a model's, tokenizer's or encoder's folder and its modules' folders.

    Links may lead out of it: the hub's cache is made of them.

    Args:
        folder: as its owner published it.
        field: the setting that named it, for the message.

    Raises:
        ModelError: the folder asks for code, for pickled weights or for another repository, or holds a pipe, a socket
            or a device; names the file.
    """
    try:
        refuse_special((*folder.glob("*"), *folder.glob("*/*")))
    except OSError as error:
        raise ModelError(f"{field}: {error.filename}: cannot be read ({error.strerror})") from None
    for path in sorted({*folder.glob("*.json"), *folder.glob("*/*.json")} - _data_files(folder)):
        try:
            settings = json.loads(read_outside(path, GIB))
        except (OSError, ValueError, RecursionError):
            # Whoever needs the file says what is wrong with it.
            continue
        reason = _wrong_module(folder, settings) if path.name == "modules.json" else _wrong(path.name, settings)
        if reason is not None:
            raise ModelError(
                f"{field}: {path} asks for {reason}; simtune runs no code and reads no pickle that comes with a model. "
                "Take one that needs neither: weights as model.safetensors, and no classes of its own"
            )


def pickled_weights(folder: Path) -> list[Path]:
    """Files of a folder in formats whose reading may run code."""
    return sorted(path for pattern in _PICKLED for path in folder.glob(pattern))


def _data_files(folder: Path) -> set[Path]:
    return {path for name in _NO_SETTINGS for path in (folder / name, *folder.glob(f"*/{name}"))}


def _wrong(file: str, settings: Any) -> str | None:
    if file == "adapter_config.json":
        return "another model, of which it is an adapter"
    for key, value in _settings(settings):
        if key == "auto_map":
            return "code of its own (auto_map)"
        if key == "trust_remote_code" and value:
            return "code of its own (trust_remote_code)"
        if key in {"weights_only", "use_safetensors"} and value is not True:
            return f"pickled weights ({key}: {value})"
        if key.strip("_").startswith(("attn_implementation", "experts_implementation")) and "/" in json.dumps(value):
            return f"compiled code from the hub ({key}: {value})"
        if key in {"use_kernels", "kernel_config"} and value:
            return f"compiled code from the hub ({key})"
        if key == "activation_function" and "." in str(value) and not str(value).startswith("torch.nn.modules."):
            return f"code of its own ({key}: {value})"
        if key == "weight_map" and isinstance(value, Mapping):
            strange = [name for name in value.values() if "/" in str(name) or not str(name).endswith(".safetensors")]
            if strange:
                return f"weights that are no safetensors file of its own ({strange[0]})"
    return None


def _wrong_module(folder: Path, modules: Any) -> str | None:
    for module in modules if isinstance(modules, list) else [modules]:
        kind, place = (str(module.get(key, "")) for key in ("type", "path")) if isinstance(module, dict) else ("", "")
        if not _MODULE.fullmatch(kind):
            return f"a module that simtune does not know ({kind or module})"
        if place in {".", ".."} or "/" in place.rstrip("/") or "\\" in place:
            return f"a module outside of its folders ({place})"
        if (
            place
            and (pickles := pickled_weights(folder / place))
            and not (folder / place / "model.safetensors").exists()
        ):
            return f"pickled weights ({place}/{pickles[0].name})"
    return None


def _settings(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key of nested settings with its value."""
    pending = [value]
    while pending:
        now = pending.pop()
        if isinstance(now, Mapping):
            yield from now.items()
            pending += now.values()
        elif isinstance(now, list):
            pending += now
