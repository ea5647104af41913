"""From text to token ids: a published tokenizer, or one trained on the pool's own text.

Either way it becomes one `tokenizers.Tokenizer`, which can be pickled and hashed and does not need torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tokenizers import Encoding, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from simtune.config.settings import ModelSettings
from simtune.corpus.task import Task
from simtune.errors import ModelError, first_line
from simtune.hub import hub_snapshot, local_folder
from simtune.tokenizer_folder import declared_class, refuse_byte_tokenizer, refuse_without_vocabulary
from simtune.untrusted import refuse_code

# A folder with any of these has a tokenizer.
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "*.model", "vocab.json", "vocab.txt")
_WITH_PIECES = "Choose a T5 or mT5 that has a tokenizer.json or spiece.model"
PAD, EOS, UNKNOWN = "<pad>", "</s>", "<unk>"


@dataclass(frozen=True)
class TextTokenizer:
    """A tokenizer that ends every text with an end-of-sequence token and never cuts unless asked to.

    Attributes:
        tokenizer: the library's object.
        pad_id: fills rows up.
        eos_id: ends every sequence.
        label: where it came from, for messages.
    """

    tokenizer: Tokenizer
    pad_id: int
    eos_id: int
    label: str

    def encode_batch(self, texts: Sequence[str], end: bool = True) -> list[list[int]]:
        """The ids of texts; without `end` they lack the end-of-sequence token, unless there is nothing else."""
        rows = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        return rows if end else [self._without_end(row) for row in rows]

    def encode_within(self, texts: Sequence[str], max_tokens: int, end: bool = True) -> list[list[int]]:
        """The same with texts cut from the right so that they have at most `max_tokens` ids, the end among them.

        With `end` these are the ids of the transformers library's `truncation=True`.
        """
        most = max_tokens if end else max_tokens + 1
        rows = [
            encoding.ids if len(encoding.ids) <= most else _cut(encoding, most)
            for encoding in self.tokenizer.encode_batch(list(texts))
        ]
        return rows if end else [self._without_end(row) for row in rows]

    def count_tokens(self, texts: Sequence[str], end: bool = True) -> list[int]:
        return [len(row) for row in self.encode_batch(texts, end)]

    def _without_end(self, ids: list[int]) -> list[int]:
        return ids[:-1] if len(ids) > 1 and ids[-1] == self.eos_id else ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text without special tokens."""
        return self.tokenizer.decode(list(token_ids), skip_special_tokens=True)

    def is_special(self, token_id: int) -> bool:
        """Whether an id is never part of a text: it is a special token, or not in the vocabulary."""
        if token_id in (self.pad_id, self.eos_id) or self.tokenizer.id_to_token(token_id) is None:
            return True
        added = self.tokenizer.get_added_tokens_decoder().get(token_id)
        return added is not None and added.special

    @cached_property
    def vocab_size(self) -> int:
        """All ids are below this; there may be gaps between them."""
        return 1 + max(self.tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides ids."""
        decides = f"{self.pad_id} {self.eos_id} {self.tokenizer.to_str()}"
        return hashlib.sha256(decides.encode()).hexdigest()


def load_tokenizer(model: ModelSettings, pool: Iterable[Task]) -> TextTokenizer:
    """The tokenizer of a model: trained on `pool`, or read from a folder or the hub.

    Raises:
        ModelError: it does not exist, needs code of its own, or has no end-of-sequence or padding token.
    """
    if model.tokenizer == "pool":
        return train_tokenizer(pool, model.vocab_size)
    name = model.tokenizer or model.name
    field = "model.tokenizer" if model.tokenizer else "model.name"
    folder = local_folder(name, field)
    try:
        if folder is None:
            # On its own the library requests file after file, each with a minute of retries when there is no network.
            revision = model.revision if name == model.name else None
            # `name` and `revision` are those of the weights, so that the commit is too.
            # The first is named, so that a cache without it is not taken for complete.
            folder = hub_snapshot(name, revision, ["tokenizer_config.json", "*.json", "*.model", "*.txt"])
        refuse_code(folder, field)
        from transformers import AutoTokenizer
        from transformers.utils import logging as transformers_logging

        transformers_logging.set_verbosity_error()
        loaded = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except ModelError:
        raise
    except Exception as error:
        reason = first_line(error)[:200]
        raise ModelError(
            f"no tokenizer could be loaded from {name!r} ({type(error).__name__}: {reason}). Give a folder "
            "with tokenizer.json or spiece.model, or a hub name, in model.tokenizer; without a hub, "
            "`model.tokenizer: pool` with `model.init: random` trains one",
            field=field,
        ) from error
    tokenizer = getattr(loaded, "backend_tokenizer", None)
    if tokenizer is None:
        class_name = type(loaded).__name__
        refuse_byte_tokenizer(name, class_name, _WITH_PIECES, field)
        raise ModelError(
            f"the tokenizer of {name!r} ({class_name}) is not from the tokenizers library. {_WITH_PIECES}", field=field
        )
    if loaded.eos_token_id is None or loaded.pad_token_id is None:
        raise ModelError(f"the tokenizer of {name!r} lacks an end-of-sequence or padding token", field=field)
    refuse_without_vocabulary(name, loaded, field)
    return TextTokenizer(_without_limits(tokenizer), loaded.pad_token_id, loaded.eos_token_id, name)


def check_tokenizer(model: ModelSettings) -> None:
    """Checks a tokenizer's folder on this disk, without asking a hub.

    Raises:
        ModelError: there is no such folder, or it has no tokenizer that `load_tokenizer` would accept.
    """
    if model.tokenizer == "pool":
        return
    field = "model.tokenizer" if model.tokenizer else "model.name"
    name = model.tokenizer or model.name
    folder = local_folder(name, field)
    if folder is None:
        return
    refuse_byte_tokenizer(name, declared_class(folder), _WITH_PIECES, field)
    if not any(next(folder.glob(pattern), None) for pattern in _TOKENIZER_FILES):
        raise ModelError(
            f"{folder} has no tokenizer ({', '.join(_TOKENIZER_FILES)}). Give a folder or a hub name in "
            "model.tokenizer",
            field=field,
        )
    refuse_code(folder, field)
    # A whole tokenizer.json is loaded in a tenth of a second, other files with the transformers library and torch.
    light = light_tokenizer(model, ())
    if light is None:
        load_tokenizer(model, ())
    else:
        refuse_without_vocabulary(name, light.tokenizer, field)


def light_tokenizer(model: ModelSettings, split_at_spaces: tuple[str, ...]) -> TextTokenizer | None:
    """The tokenizer of a local `tokenizer.json`, read without torch, for estimates; None if there is no such file.

    Args:
        model: names its folder.
        split_at_spaces: see `ModelFamily.tokenizers_split_at_spaces`.
    """
    folder = Path(model.tokenizer or model.name)
    path = folder / "tokenizer.json"
    try:
        if not path.is_file():
            return None
        tokenizer = _without_limits(Tokenizer.from_file(str(path)))
    # The library raises bare Exception; `load_tokenizer` reports the reason.
    except Exception:
        return None
    pad_id, eos_id = tokenizer.token_to_id(PAD), tokenizer.token_to_id(EOS)
    if pad_id is None or eos_id is None:
        return None
    if declared_class(folder).startswith(split_at_spaces):
        # Without this, line ends count double.
        tokenizer.pre_tokenizer = _pieces_of_words()
    return TextTokenizer(tokenizer, pad_id, eos_id, str(folder))


def train_tokenizer(pool: Iterable[Task], vocab_size: int) -> TextTokenizer:
    """Trains byte-pair pieces on the pool's definitions, demonstrations and drawn instances. Deterministic."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN, fuse_unk=True))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = _pieces_of_words(split_punctuation=True)
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[PAD, EOS, UNKNOWN], show_progress=False, min_frequency=1
    )
    tokenizer.train_from_iterator(_texts(pool), trainer)
    # The trainer numbers special tokens in their order.
    pad_id, eos_id = 0, 1
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {EOS}", special_tokens=[(EOS, eos_id)])
    return TextTokenizer(tokenizer, pad_id, eos_id, "trained on the pool")


def _texts(pool: Iterable[Task]) -> Iterable[str]:
    # The words that Tk-Instruct's prompts add must be in the vocabulary too.
    yield "Definition: Positive Example 1 - Negative Example 2 - Now complete the following example - Input: Output:"
    for task in pool:
        yield f"{task.name}. {task.definition}"
        for shown in (*task.positive, *task.negative):
            yield f"{shown.input}\n{shown.output}\n{shown.explanation or ''}"
        for instance in task.instances:
            yield "\n".join((instance.input, *instance.outputs))


def _pieces_of_words(split_punctuation: bool = False) -> pre_tokenizers.PreTokenizer:
    steps = [
        pre_tokenizers.WhitespaceSplit(),
        pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"),
    ]
    if split_punctuation:
        # A word before a comma is then the same piece as the word alone.
        steps.append(pre_tokenizers.Punctuation())
    return pre_tokenizers.Sequence(steps)


def _cut(encoding: Encoding, max_tokens: int) -> list[int]:
    """The first tokens of a text between those that the tokenizer puts around every text."""
    ids, added = encoding.ids, encoding.special_tokens_mask
    before, after = added.index(0), added[::-1].index(0)
    end = len(ids) - after
    return [*ids[: before + max(0, max_tokens - before - after)], *ids[end:]]


def _without_limits(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
