"""Encoder-decoder models: pretrained ones by name or folder, and new ones from their sizes alone.

`resolve_model` runs on the driver before anything starts and finds out what the model is (family, sizes, files,
identity); `build_model` makes it in each worker. What differs between architectures is in `families`.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from simtune.config.problems import settings_error
from simtune.config.settings import ModelSettings
from simtune.errors import ModelError, ModelFilesError, cut, first_line, shown
from simtune.hub import commit_of, find_on_host, hub_snapshot, local_folder
from simtune.loaded_weights import LoadedModel, check_headers, refuse_incomplete, refuse_not_finite
from simtune.outside_files import visible
from simtune.prompting.tokenizer import TextTokenizer
from simtune.storage.complete_folder import MARKER
from simtune.storage.files import fingerprint
from simtune.storage.folder_content import content_of, outline_of
from simtune.tokenizer_folder import refuse_other_vocabulary
from simtune.training.families.family import ModelFamily, padded_vocabulary
from simtune.training.families.registry import family, family_name, known_family_name, supported_models
from simtune.training.generation_settings import unused_generation_settings
from simtune.training.seq2seq_model import Seq2SeqModel
from simtune.training.special_ids import SpecialIds, special_ids_from_files
from simtune.training.weight_headers import check_arrays
from simtune.untrusted import pickled_weights, refuse_code
from simtune.wording import counted

# The files that are downloaded from the hub.
_FILES = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json")
# Files in a model's folder that are not part of it: the tokenizer, which has its own identity, and simtune's marker.
_OTHER_FILES = (
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "*.model"),
    *("chat_template*", MARKER),
)


@dataclass(frozen=True)
class PublishedFiles:
    """The files of a pretrained model, wherever they are.

    Attributes:
        name: a folder that every machine must have, or a name on the hub.
        commit: of a model on the hub; None for a folder.
        digests: SHA-256 by path within the folder, as pairs.
    """

    name: str
    commit: str | None
    digests: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ResolvedModel:
    """A model as the driver found it.

    Attributes:
        family: its name in the registry of families.
        config: the configuration of a new model, without a dropout that the training sets; empty for a pretrained one.
        source: the folder that pretrained weights come from, as the driver sees it; empty for a new model.
        published: what other machines find the same files by, and know them by; None for weights of our own.
        fingerprint: SHA-256 of what decides the initial weights and how answers are decoded, except the seed; not of
            the training's dropout, which changes neither.
        ids: its special tokens; None where `config` has them.
        unused: its own generation settings that a sweep overrides, in words; empty where there are none.
    """

    family: str
    config: dict[str, Any]
    source: str
    published: PublishedFiles | None
    fingerprint: str
    ids: SpecialIds | None = None
    unused: str = ""


def resolve_model(model: ModelSettings, tokenizer: TextTokenizer) -> ResolvedModel:
    """Finds out what a model is, without building it.

    Raises:
        ModelError: it cannot be loaded, needs code or pickles, is of no known family, the tokenizer has more pieces
            than it has embeddings, or its special tokens do not fit.
        ConfigError: `model.config` has a key or a value that the family does not take.
    """
    if model.init == "random":
        name, config = _new_config(model, tokenizer)
        return ResolvedModel(name, config, "", None, fingerprint({"config": config}))
    folder, revision = _pretrained_folder(model)
    settings = _read_json(folder, "config.json", model.name)
    name = _family_name(settings, model.name)
    embeddings = settings.get("vocab_size", 0)
    if not isinstance(embeddings, int):
        raise ModelError(
            f"the config.json of {model.name!r} has vocab_size {shown(embeddings)}, which is not a number",
            field="model.name",
        )
    if tokenizer.vocab_size > embeddings:
        raise ModelError(
            f"{tokenizer.label!r} has {counted(tokenizer.vocab_size, 'piece')}, the model "
            f"{model.name!r} has "
            f"{counted(embeddings, 'embedding')}. Use the model's own tokenizer (model.tokenizer: null)",
            field="model.tokenizer",
        )
    if model.tokenizer is None:
        refuse_other_vocabulary(model.name, tokenizer.tokenizer, embeddings, "model.name")
    if revision is not None:
        # `check_model` has looked at other folders.
        check_headers(_weights(folder), "model.name")
        check_arrays(folder)
    published = (folder / "generation_config.json").exists()
    generation = _read_json(folder, "generation_config.json", model.name) if published else {}
    ids = special_ids_from_files(settings, generation, _class_defaults(settings["model_type"]), tokenizer, model.name)
    identity = _content(folder, from_hub=commit_of(model.name, model.revision) is not None)
    # The key of no meaning keeps the names of models that were trained before.
    decides = {"files": identity, "dropout": None, "ids": asdict(ids)}
    unused = unused_generation_settings(generation if published else settings)
    files = PublishedFiles(model.name if revision else str(folder.absolute()), revision, tuple(identity.items()))
    return ResolvedModel(name, {}, str(folder.absolute()), files, fingerprint(decides), ids, unused)


def check_model(model: ModelSettings) -> None:
    """Finds what is wrong with a model's folder on this disk, without reading its weights or asking a hub.

    Raises:
        ModelError: there is no such folder, or it has no model that `resolve_model` would accept.
        ConfigError: `model.config` has a key or a value that the model's family does not take.
    """
    known = known_family_name(model.name) if model.init == "random" else None
    if known is None:
        if local_folder(model.name, "model.name") is None:
            return
        folder, _ = _pretrained_folder(model, weights=model.init == "pretrained")
        known = _family_name(_read_json(folder, "config.json", model.name), model.name)
        if model.init == "pretrained":
            check_headers(_weights(folder), "model.name")
            check_arrays(folder)
    if model.init == "random":
        _given_sizes(model, family(known))


def outline_of_model(name: str, revision: str | None) -> str:
    """Finds a pretrained model where `build_model` would on this host, without reading or downloading its weights.

    Returns:
        What tells its files from others; empty if they are not here yet and the hub has them.

    Raises:
        ModelError: it is neither here nor on a hub that answers.
    """
    found, patterns = find_on_host(name, revision, _FILES, "model.name")
    if found is None:
        return ""
    folder, _ = _pretrained_folder(ModelSettings(name=str(found)))
    return outline_of(folder, patterns, ignored=_OTHER_FILES, subfolders=False)


def build_model(resolved: ResolvedModel, seed: int, dropout: float | None) -> Seq2SeqModel:
    """The model in fp32 on the CPU; a new one's weights follow from the seed alone.

    Raises:
        ModelError: the weights cannot be read.
    """
    import torch
    from transformers import AutoModelForSeq2SeqLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    settings = {} if dropout is None else {family(resolved.family).dropout_key: dropout}
    if not resolved.source:
        torch.manual_seed(seed)
        return family(resolved.family).build({**resolved.config, **settings})
    source = resolved.source if resolved.published is None else _folder_here(resolved.published)
    model: Seq2SeqModel
    try:
        model, loading = AutoModelForSeq2SeqLM.from_pretrained(
            source,
            dtype=torch.float32,
            trust_remote_code=False,
            use_safetensors=True,
            weights_only=True,
            output_loading_info=True,
            # The library would only say that there is one. It is refused below.
            ignore_mismatched_sizes=True,
            **settings,
        )
    except Exception as error:
        raise ModelError(
            f"the weights in {source} cannot be loaded ({type(error).__name__}: {first_line(error)})",
            field="model.name",
        ) from error
    loaded = LoadedModel.from_report(cast(torch.nn.Module, model), loading)
    refuse_incomplete(loaded, source, "model.name")
    refuse_not_finite(loaded.model, source, "model.name")
    if resolved.ids is not None:
        resolved.ids.write(model)
    return model


@cache
def _folder_here(files: PublishedFiles) -> str:
    """The folder of a published model on this machine, which may not be the driver's; its files are verified.

    Raises:
        ModelFilesError: the model is not here, or its files differ from the driver's.
    """
    here = socket.gethostname()
    if files.commit is None:
        folder = Path(files.name)
        if not folder.is_dir():
            raise ModelFilesError(
                f"{folder}: there is no such folder on host {here}. Put the model where every host sees it under the "
                "same path, or use a hub name",
                field="model.name",
            )
    else:
        try:
            folder, _ = _pretrained_folder(ModelSettings(name=files.name, revision=files.commit))
        except ModelError as error:
            # The driver had it.
            raise ModelFilesError(f"on host {here}: {error}") from error
    found, expected = _content(folder, from_hub=files.commit is not None), dict(files.digests)
    if different := sorted(path for path in found | expected if found.get(path) != expected.get(path)):
        raise ModelFilesError(
            f"{files.name!r} in {folder} on host {here} differs from the driver's, for example in {different[0]}. "
            "Install the same files on every host",
            field="model.name",
        )
    return str(folder)


def _content(folder: Path, from_hub: bool) -> dict[str, str]:
    """SHA-256 of the files of a model, whose subfolders are not part of it unless its settings name a file there."""
    return content_of(folder, _FILES if from_hub else ("*",), ignored=_OTHER_FILES, subfolders=False)


def _new_config(model: ModelSettings, tokenizer: TextTokenizer) -> tuple[str, dict[str, Any]]:
    """The family and the whole configuration of a model with new weights."""
    name, sizes = _sizes(model)
    found = family(name)
    sizes |= _given_sizes(model, found)
    vocab_size = padded_vocabulary(tokenizer.vocab_size)
    try:
        return name, found.new_config(sizes, vocab_size, tokenizer.pad_id, tokenizer.eos_id)
    except Exception as error:
        raise ModelError(
            f"not a configuration of {found.name} ({type(error).__name__}: {error})",
            field="model.config",
        ) from error


def _sizes(model: ModelSettings) -> tuple[str, dict[str, Any]]:
    """The family and the sizes of the model whose shape new weights take."""
    name = known_family_name(model.name)
    if name is not None:
        return name, dict(family(name).known_sizes[model.name])
    folder, _ = _pretrained_folder(model, weights=False)
    config = _read_json(folder, "config.json", model.name)
    name = _family_name(config, model.name)
    found = family(name)
    return name, {key: config[key] for key in (*found.Settings.model_fields, found.dropout_key) if key in config}


def _given_sizes(model: ModelSettings, found: ModelFamily) -> dict[str, Any]:
    """What `model.config` sets.

    Raises:
        ConfigError: a key that the family does not have, or a wrong value.
    """
    try:
        return found.Settings.model_validate(model.config).model_dump(exclude_none=True)
    except ValidationError as error:
        raise settings_error(
            error, found.Settings, model.config, lambda path: ".".join(["model.config", *map(str, path)])
        ) from None


def _pretrained_folder(model: ModelSettings, weights: bool = True) -> tuple[Path, str | None]:
    """The local folder of a model (a path, or the hub's cache), and the commit it is pinned to."""
    folder = local_folder(model.name, "model.name")
    if folder is not None:
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} has no config.json, so it is not a model folder", field="model.name")
        if weights and not _weights(folder):
            pickled = "".join(
                f"; {path.name} is pickled and never read: convert it" for path in pickled_weights(folder)[:1]
            )
            raise ModelError(f"{folder} has no weights (model.safetensors){pickled}", field="model.name")
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
        reason = first_line(error)[:200]
        raise ModelError(
            f"{model.name!r} is not a local folder and could not be downloaded from the model hub "
            f"({type(error).__name__}: {reason}). Give a folder or, without a hub, set model.init=random",
            field="model.name",
        ) from error
    refuse_code(folder, "model.name")
    return folder, commit_of(model.name, model.revision) or model.revision


def _weights(folder: Path) -> list[Path]:
    return sorted(path for path in visible(folder.glob("*.safetensors")) if path.is_file())


def _read_json(folder: Path, file: str, name: str) -> dict[str, Any]:
    """The content of one of a model's JSON files."""
    try:
        settings = json.loads((folder / file).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"the {file} of {name!r} cannot be read ({error})", field="model.name") from error
    if not isinstance(settings, dict):
        raise ModelError(f"the {file} of {name!r} is not a JSON object", field="model.name")
    return settings


def _family_name(config: Mapping[str, object], name: str) -> str:
    model_type = config.get("model_type")
    found = family_name(model_type)
    if found is None:
        raise ModelError(
            f"{name!r} is a {cut(str(model_type))} model, which is not supported. Supported families: "
            f"{supported_models()}",
            field="model.name",
        )
    return found


def _class_defaults(model_type: str) -> dict[str, Any]:
    """The library's defaults for ids that a model's files do not give."""
    from transformers import AutoConfig

    defaults: dict[str, Any] = AutoConfig.for_model(model_type).to_dict()
    return defaults
