"""The tokenizer of the cross-lingual track: GPT-2's byte-level BPE.

`rouge_score`'s default tokenizer knows only the Latin script and scores everything else 0. The official
script (`eval/automatic/evaluation.py`) hands `rouge_score` a GPT-2 tokenizer for that track, and then neither
stems nor lower-cases.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from simtune.errors import ModelError
from simtune.hub import hub_snapshot, local_folder
from simtune.outside_files import refuse_special
from simtune.tokenizer_folder import declared_class, refuse_byte_tokenizer, refuse_without_vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

GPT2_TOKENIZER = "openai-community/gpt2"
# Of 2024; pinned so that scores do not change when the file does.
_GPT2_COMMIT = "607a30d783dfa663caf39e06633721c8d4cfcd7e"

_END_OF_TEXT = "<|endoftext|>"
_SPACE_MARK = "Ġ"

# Texts encoded at once: the tokenizer holds some hundred bytes for each token until it hands them over.
_BATCH_CHARS = 1 << 20


class Gpt2Tokenize:
    """From a text to GPT-2's tokens without their leading-space marks.

    The mark goes because the first word of a text has none. A token of nothing but spaces becomes the empty
    token and still counts, as in the official script.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        # A limit saved with the tokenizer would silently cut long predictions.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of everything that decides tokens, wherever they were read from."""
        return hashlib.sha256(self._tokenizer.to_str().encode()).hexdigest()

    def __call__(self, text: str) -> list[str]:
        """The tokens of one text."""
        return self._unmarked(self._tokenizer.encode(text, add_special_tokens=False).tokens)

    def many(self, texts: Sequence[str]) -> Iterator[list[str]]:
        """The tokens of each text, on all cores."""
        for batch in _batches(texts):
            for encoding in self._tokenizer.encode_batch(batch, add_special_tokens=False):
                yield self._unmarked(encoding.tokens)

    @staticmethod
    def _unmarked(tokens: list[str]) -> list[str]:
        return [token.lstrip(_SPACE_MARK) for token in tokens]


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    num_chars = 0
    for text in texts:
        batch.append(text)
        num_chars += len(text)
        if num_chars >= _BATCH_CHARS:
            yield batch
            batch, num_chars = [], 0
    if batch:
        yield batch


def gpt2_tokenize(name_or_path: str = GPT2_TOKENIZER, field: str = "") -> Gpt2Tokenize:
    """GPT-2's tokenizer, or another of its kind, as the cross-lingual track scores with it.

    Args:
        name_or_path: a model of the hub; or a folder with `tokenizer.json`, or with `vocab.json` and
            `merges.txt`; or the path of a `tokenizer.json`.
        field: of the sweep file that names it; empty where options of `simtune score` do.

    Raises:
        ModelError: it cannot be loaded, or reads bytes.
    """
    if field:
        is_local(name_or_path, field)
    remedy = f"Choose {GPT2_TOKENIZER} or a similar one"
    refuse_byte_tokenizer(name_or_path, declared_class(name_or_path), remedy, field)
    try:
        tokenizer = _load(name_or_path)
    except Exception as error:  # tokenizers raises bare Exception, its hub client many types
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        which, remedy = (
            ("a tokenizer for ROUGE-L", "give that folder here")
            if field
            else (
                "the tokenizer of the cross-lingual track",
                "name it (--xlingual-tokenizer), or score the track `default` alone (--track)",
            )
        )
        raise ModelError(
            f"cannot load {name_or_path!r}, {which} ({reason}). Where the hub is out of reach, copy "
            f"`tokenizer.json`, or `vocab.json` and `merges.txt`, of {GPT2_TOKENIZER} into a folder and {remedy}",
            field=field,
        ) from error
    refuse_without_vocabulary(name_or_path, tokenizer, field)
    return Gpt2Tokenize(tokenizer)


def is_local(name_or_path: str, field: str) -> bool:
    """Whether a tokenizer is a folder or a file of this machine, not a name on the hub.

    Raises:
        ModelError: the name can only be a path, and there is nothing.
    """
    try:
        if Path(name_or_path).expanduser().is_file():
            return True
    except (OSError, RuntimeError):
        # No path: too long, or of an unknown user. `local_folder` says so.
        pass
    return local_folder(name_or_path, field) is not None


def _load(name_or_path: str) -> Tokenizer:
    from tokenizers import Tokenizer, models, pre_tokenizers

    path = Path(name_or_path).expanduser()
    refuse_special((path, *(path / name for name in ("tokenizer.json", "vocab.json", "merges.txt"))))
    if path.is_dir() and not (path / "tokenizer.json").exists():
        # The files of GPT-2's first release.
        tokenizer = Tokenizer(models.BPE.from_file(str(path / "vocab.json"), str(path / "merges.txt")))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.add_special_tokens([_END_OF_TEXT])
        return tokenizer
    if path.exists():
        return Tokenizer.from_file(str(path / "tokenizer.json" if path.is_dir() else path))
    commit = _GPT2_COMMIT if name_or_path == GPT2_TOKENIZER else None
    return Tokenizer.from_file(str(hub_snapshot(name_or_path, commit, ["tokenizer.json"]) / "tokenizer.json"))
