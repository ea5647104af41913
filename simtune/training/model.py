"""Encoder-decoder models: pretrained ones by name or folder, and new ones from their sizes alone.

`resolve_model` runs on the driver before anything starts and settles what the model is (sizes, files, identity);
`build_model` makes it in each worker.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from simtune.config.settings import ModelSettings
from simtune.errors import ModelError, cut, shown
from simtune.hub import commit_of, hub_snapshot, local_folder
from simtune.outside_files import visible
from simtune.prompting.tokenizer import TextTokenizer
from simtune.storage.complete_folder import MARKER
from simtune.storage.files import fingerprint
from simtune.storage.folder_content import content_of
from simtune.training.special_ids import SpecialIds, special_ids_from_files
from simtune.untrusted import pickled_weights, refuse_code
from simtune.wording import counted

# Sizes as published in the models' own configurations; what is not named here is the library's T5 default.
_T5 = {
    "t5-small": {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8},
    "t5-base": {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12},
    "t5-large": {"d_model": 1024, "d_kv": 64, "d_ff": 4096, "num_layers": 24, "num_heads": 16},
    "t5-3b": {"d_model": 1024, "d_kv": 128, "d_ff": 16384, "num_layers": 24, "num_heads": 32},
}
_LM_ADAPT = {
    "t5-small-lm-adapt": {"d_model": 512, "d_kv": 64, "d_ff": 1024, "num_layers": 8, "num_heads": 6},
    "t5-base-lm-adapt": {"d_model": 768, "d_kv": 64, "d_ff": 2048, "num_layers": 12, "num_heads": 12},
    "t5-large-lm-adapt": {"d_model": 1024, "d_kv": 64, "d_ff": 2816, "num_layers": 24, "num_heads": 16},
    "t5-xl-lm-adapt": {"d_model": 2048, "d_kv": 64, "d_ff": 5120, "num_layers": 24, "num_heads": 32},
}
KNOWN_SIZES: dict[str, dict[str, Any]] = {f"google-t5/{name}": sizes for name, sizes in _T5.items()} | {
    f"google/{name}": sizes | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
    for name, sizes in _LM_ADAPT.items()
}
# What a model is asked for on the hub.
_FILES = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json")
# What may lie beside a model and is none of it: the tokenizer, which has an identity of its own, and simtune's marker.
_OTHER_FILES = (
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "*.model"),
    *("chat_template*", MARKER),
)

# How a published model wishes its answers to be searched for; greedy decoding has these values, or none.
_GREEDY = {
    "num_beams": 1,
    "do_sample": False,
    "penalty_alpha": 0,
    "dola_layers": None,
    "force_words_ids": None,
    "constraints": None,
    "stop_strings": None,
}


@dataclass(frozen=True)
class ResolvedModel:
    """A model settled on the driver.

    Attributes:
        config: keyword arguments of the library's T5 configuration, for a new model; empty for a pretrained one.
        source: the folder or hub name that pretrained weights come from; empty for a new model.
        revision: the hub commit the weights are pinned to, if any.
        fingerprint: SHA-256 of what decides the initial weights and how answers are decoded, the seed aside.
        ids: what the model is to say; None where `config` says it.
        unused: its own generation settings that a sweep overrides, in words; empty where there are none.
    """

    config: dict[str, Any]
    source: str
    revision: str | None
    fingerprint: str
    ids: SpecialIds | None = None
    unused: str = ""


def resolve_model(model: ModelSettings, tokenizer: TextTokenizer, dropout: float | None) -> ResolvedModel:
    """Settles what a model is, without building it.

    Raises:
        ModelError: it cannot be loaded, asks for code or pickles, is no T5, the tokenizer has more pieces than it has
            embeddings, or its special tokens do not fit.
    """
    if model.init == "random":
        config = _new_config(model, tokenizer)
        if dropout is not None:
            config["dropout_rate"] = dropout
        return ResolvedModel(config, "", None, fingerprint({"config": config}))
    folder, revision = _pretrained_folder(model)
    settings = _read_json(folder, "config.json", model.name)
    _refuse_other_kinds(settings, model.name)
    embeddings = settings.get("vocab_size", 0)
    if not isinstance(embeddings, int):
        raise ModelError(f"model.name: the config.json of {model.name!r} has vocab_size {shown(embeddings)}, no number")
    if tokenizer.vocab_size > embeddings:
        raise ModelError(
            f"model.tokenizer: {tokenizer.label!r} has {counted(tokenizer.vocab_size, 'piece')}, the model "
            f"{model.name!r} has "
            f"{counted(embeddings, 'embedding')}. Use the model's own tokenizer (model.tokenizer: null)"
        )
    published = (folder / "generation_config.json").exists()
    generation = _read_json(folder, "generation_config.json", model.name) if published else {}
    ids = special_ids_from_files(settings, generation, _class_defaults(settings["model_type"]), tokenizer, model.name)
    # Subfolders are no part of a T5.
    asked = _FILES if commit_of(model.name, model.revision) else ("*",)
    identity = content_of(folder, asked, ignored=_OTHER_FILES, subfolders=False)
    decides = {"files": identity, "dropout": dropout, "ids": asdict(ids)}
    return ResolvedModel(
        {}, str(folder), revision, fingerprint(decides), ids, _unused(generation if published else settings)
    )


def check_model(model: ModelSettings) -> None:
    """Finds what is wrong with a model's folder on this disk, without reading its weights or asking a hub.

    Raises:
        ModelError: there is no such folder, or it holds no model that `resolve_model` would take.
    """
    if (model.init == "random" and model.name in KNOWN_SIZES) or local_folder(model.name, "model.name") is None:
        return
    folder, _ = _pretrained_folder(model, weights=model.init == "pretrained")
    settings = _read_json(folder, "config.json", model.name)
    if model.init == "pretrained":
        _refuse_other_kinds(settings, model.name)


def build_model(resolved: ResolvedModel, seed: int, dropout: float | None) -> Any:
    """The model in fp32 on the CPU; a new one's weights follow from the seed alone.

    Raises:
        ModelError: the weights cannot be read.
    """
    import torch
    from transformers import AutoModelForSeq2SeqLM, T5Config, T5ForConditionalGeneration
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    if not resolved.source:
        torch.manual_seed(seed)
        return T5ForConditionalGeneration(T5Config(**resolved.config))
    try:
        settings = {} if dropout is None else {"dropout_rate": dropout}
        model, loading = AutoModelForSeq2SeqLM.from_pretrained(
            resolved.source,
            dtype=torch.float32,
            trust_remote_code=False,
            use_safetensors=True,
            weights_only=True,
            output_loading_info=True,
            **settings,
        )
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
        raise ModelError(
            f"model.name: the weights in {resolved.source} cannot be loaded ({type(error).__name__}: {reason})"
        ) from error
    if missing := sorted(loading["missing_keys"]):
        # The library would fill them with random numbers.
        raise ModelError(
            f"model.name: the weights in {resolved.source} lack {counted(len(missing), 'array')} of the model, such as "
            f"{missing[0]}: they belong to another model, or a part of them is missing"
        )
    if resolved.ids is not None:
        resolved.ids.write(model)
    return model


def _new_config(model: ModelSettings, tokenizer: TextTokenizer) -> dict[str, Any]:
    from transformers import T5Config

    sizes: dict[str, Any]
    if model.name in KNOWN_SIZES:
        sizes = dict(KNOWN_SIZES[model.name])
    else:
        folder, _ = _pretrained_folder(model, weights=False)
        read = _read_json(folder, "config.json", model.name)
        sizes = {key: read[key] for key in (*type(model.config).model_fields, "dropout_rate") if key in read}
    sizes |= model.config.model_dump(exclude_none=True)
    if "num_decoder_layers" not in sizes:
        sizes["num_decoder_layers"] = sizes["num_layers"]
    # A multiple of 64 keeps matrix products on their fast paths; the pieces beyond the tokenizer's are never used.
    vocab_size = -(-tokenizer.vocab_size // 64) * 64
    config = sizes | {
        "vocab_size": vocab_size,
        "pad_token_id": tokenizer.pad_id,
        "eos_token_id": tokenizer.eos_id,
        "decoder_start_token_id": tokenizer.pad_id,
    }
    try:
        T5Config(**config)
    except Exception as error:
        raise ModelError(f"model.config: not a T5 configuration ({type(error).__name__}: {error})") from error
    return config


def _pretrained_folder(model: ModelSettings, weights: bool = True) -> tuple[Path, str | None]:
    """The local folder of a model (a path, or the hub's cache), and the commit it is pinned to."""
    folder = local_folder(model.name, "model.name")
    if folder is not None:
        if not (folder / "config.json").is_file():
            raise ModelError(f"model.name: {folder} holds no config.json, so it is no model folder")
        if weights and not _weights(folder):
            pickled = "".join(
                f"; {path.name} is pickled and never read: convert it" for path in pickled_weights(folder)[:1]
            )
            raise ModelError(f"model.name: {folder} holds no weights (model.safetensors){pickled}")
        refuse_code(folder, "model.name")
        return folder, None
    patterns = [name for name in _FILES if weights or "safetensors" not in name]
    try:
        folder = hub_snapshot(model.name, model.revision, patterns)
        if weights and not _weights(folder):
            raise FileNotFoundError(
                "it has no *.safetensors, and pickled weights are never read; the hub's converter may have proposed "
                "them: model.revision=refs/pr/N"
            )
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else "no message"
        raise ModelError(
            f"model.name: {model.name!r} is no folder here and could not be loaded from the model hub "
            f"({type(error).__name__}: {reason}). Give a folder or, without a hub, set model.init=random"
        ) from error
    refuse_code(folder, "model.name")
    return folder, commit_of(model.name, model.revision) or model.revision


def _weights(folder: Path) -> list[Path]:
    return sorted(visible(folder.glob("*.safetensors")))


def _read_json(folder: Path, file: str, name: str) -> dict[str, Any]:
    """The content of one of a model's JSON files."""
    try:
        settings = json.loads((folder / file).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"model.name: the {file} of {name!r} cannot be read ({error})") from error
    if not isinstance(settings, dict):
        raise ModelError(f"model.name: the {file} of {name!r} is not a JSON object")
    return settings


def _refuse_other_kinds(settings: Mapping[str, Any], name: str) -> None:
    kind = settings.get("model_type")
    if kind not in ("t5", "mt5", "umt5"):
        raise ModelError(f"model.name: {name!r} is a {cut(str(kind))} model; simtune trains T5 models")


def _class_defaults(kind: str) -> dict[str, Any]:
    """What the library takes for ids that a model's files do not say."""
    from transformers import AutoConfig

    defaults: dict[str, Any] = AutoConfig.for_model(kind).to_dict()
    return defaults


def _unused(generation: dict[str, Any]) -> str:
    found = {name: generation.get(name) for name in _GREEDY}
    return ", ".join(f"{name} {cut(str(value))}" for name, value in found.items() if value not in (None, _GREEDY[name]))
