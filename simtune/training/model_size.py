"""How many numbers a model has, before it is built: from its sizes, or from the headers of its weights' files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from simtune.config.settings import ModelSettings
from simtune.outside_files import GIB, MIB, open_outside, read_outside, visible
from simtune.training.model import KNOWN_SIZES

# What the library takes where a T5's sizes do not say.
_DEFAULTS = {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8}
_PUBLISHED_VOCABULARY = 32_128
_LONGEST_HEADER = 100_000_000
_LARGEST_FILE = 1024 * GIB


def expected_parameters(model: ModelSettings, tokenizer_size: int | None) -> int | None:
    """The parameters of a model; None where only the hub, or a file that is not whole, could tell. Asks no hub.

    Args:
        tokenizer_size: pieces of the tokenizer; None where it is not known.
    """
    folder = Path(model.name).expanduser()
    if model.init == "pretrained" and folder.is_dir():
        return _in_files(sorted(visible(folder.glob("*.safetensors"))))
    try:
        sizes = KNOWN_SIZES.get(model.name) or json.loads(read_outside(folder / "config.json", MIB))
        sizes = _DEFAULTS | sizes | model.config.model_dump(exclude_none=True)
        pieces = tokenizer_size if model.init == "random" and tokenizer_size else _PUBLISHED_VOCABULARY
        untied = model.init == "pretrained" and not sizes.get("tie_word_embeddings", True)
        return t5_parameters({**sizes, "vocab_size": -(-pieces // 64) * 64}, 2 if untied else 1)
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def t5_parameters(sizes: dict[str, Any], num_embeddings: int = 1) -> int:
    """The parameters of a T5 of these sizes, shared ones once.

    Args:
        num_embeddings: 2 for published T5 1.1 weights, which have another matrix for the output. The library ties the
            two in every new model, whatever `tie_word_embeddings` says.
    """
    width, inner, layers = sizes["d_model"], sizes["d_kv"] * sizes["num_heads"], sizes["num_layers"]
    decoder_layers = sizes.get("num_decoder_layers") or layers
    gated = str(sizes.get("feed_forward_proj", "relu")).startswith("gated")
    feed_forward = (3 if gated else 2) * width * sizes["d_ff"]
    encoder = layers * (4 * width * inner + feed_forward + 2 * width)
    decoder = decoder_layers * (8 * width * inner + feed_forward + 3 * width)
    position_bias = 2 * sizes.get("relative_attention_num_buckets", 32) * sizes["num_heads"]
    embeddings = num_embeddings * sizes["vocab_size"] * width
    return int(embeddings + encoder + decoder + position_bias + 2 * width)


def _in_files(paths: list[Path]) -> int | None:
    total = 0
    try:
        for path in paths:
            with open_outside(path, _LARGEST_FILE) as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(min(length, _LONGEST_HEADER)))
            total += sum(math.prod(array["shape"]) for name, array in header.items() if name != "__metadata__")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return total or None
