"""What the folder of a tokenizer says of itself, read without the libraries that load it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from simtune.errors import ModelError
from simtune.outside_files import GIB, read_outside
from simtune.wording import counted

# Of the transformers library: their ids are bytes or code points, for which the tokenizers library has no model.
_NO_PIECES = ("ByT5", "Perceiver", "Canine")
# Without a vocabulary T5's has one, the mark of a word's begin, and BERT's and GPT-2's have none.
_FEWEST_PIECES = 2


def declared_class(folder: str | Path) -> str:
    """The class of the transformers library that a folder names for its tokenizer; empty if it names none."""
    for name in ("tokenizer_config.json", "config.json"):
        try:
            settings = json.loads(read_outside(Path(folder).expanduser() / name, GIB))
        except (OSError, ValueError, RuntimeError):
            # The code that needs the folder or the file reports what is wrong with it.
            continue
        declared = settings.get("tokenizer_class") if isinstance(settings, dict) else None
        if isinstance(declared, str) and declared:
            return declared
    return ""


def refuse_byte_tokenizer(name: str, class_name: str, remedy: str, field: str) -> None:
    """Refuses the tokenizers that read bytes.

    Raises:
        ModelError: `class_name` is one of them.
    """
    if class_name.startswith(_NO_PIECES):
        raise ModelError(
            f"the tokenizer of {name!r} ({class_name}) reads bytes, not pieces of words. {remedy}", field=field
        )


def refuse_without_vocabulary(name: str, loaded: Any, field: str) -> None:
    """Refuses a tokenizer without pieces, which the transformers library makes of a folder that lacks its vocabulary.

    Args:
        name: of the model, for the message.
        loaded: a tokenizer of the transformers or the tokenizers library.
        field: of the sweep file, for the message.

    Raises:
        ModelError: every word would be unknown.
    """
    from tokenizers import Tokenizer

    backend = getattr(loaded, "backend_tokenizer", loaded)
    if not isinstance(backend, Tokenizer):
        # Not from the tokenizers library; where that is needed, its absence is reported elsewhere.
        return
    special = {token.content for token in backend.get_added_tokens_decoder().values()}
    special |= set(getattr(loaded, "all_special_tokens", ()))
    pieces = backend.get_vocab(with_added_tokens=False).keys() - special
    if len(pieces) < _FEWEST_PIECES:
        raise ModelError(
            f"the tokenizer of {name!r} has no pieces, so that every word would be unknown: its vocabulary is missing "
            "(tokenizer.json, spiece.model, vocab.txt, or vocab.json with merges.txt). Restore the file",
            field=field,
        )


def refuse_other_vocabulary(name: str, loaded: Any, num_embeddings: int, field: str) -> None:
    """Refuses a tokenizer whose vocabulary is not that of the model's embeddings.

    Args:
        name: of the model, for the message.
        loaded: a tokenizer of the transformers or the tokenizers library.
        num_embeddings: how many pieces the model has embeddings for. Many have a few more than their tokenizer, so that
            their number suits the hardware.
        field: of the sweep file, for the message.

    Raises:
        ModelError: a piece has no embedding, or fewer than half of the embeddings have a piece.
    """
    from tokenizers import Tokenizer

    backend = getattr(loaded, "backend_tokenizer", loaded)
    if not isinstance(backend, Tokenizer):
        return
    ids = backend.get_vocab(with_added_tokens=False).values()
    last, num_pieces = max(ids, default=0), backend.get_vocab_size(with_added_tokens=True)
    if last >= num_embeddings:
        problem = f"has a piece with the id {last}, and the model has {counted(num_embeddings, 'embedding')}"
    elif 2 * num_pieces < num_embeddings:
        problem = f"has {counted(num_pieces, 'piece')} of the {num_embeddings:,} that the model has embeddings for"
    else:
        return
    raise ModelError(
        f"the tokenizer of {name!r} {problem}: its vocabulary belongs to another model, or a part of it is missing. "
        "Restore the tokenizer's files that belong to the weights",
        field=field,
    )
