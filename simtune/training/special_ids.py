"""Which token a model's decoder reads first, and which tokens end its answers: decided here and nowhere else.

`special_ids_from_files` decides on the driver, from a model's files and its tokenizer; `SpecialIds.write` puts the
decision into the model, and so into everything that is saved of it. Training, generation and ranking ask the model
(`SpecialIds.from_model`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simtune.errors import ModelError, shown
from simtune.prompting.tokenizer import TextTokenizer
from simtune.training.seq2seq_model import Seq2SeqModel

_START, _PAD, _END = "decoder_start_token_id", "pad_token_id", "eos_token_id"


@dataclass(frozen=True)
class SpecialIds:
    """Token ids with a special role.

    Attributes:
        start: read by the decoder before its first token.
        pad: fills rows; masked wherever it could affect a result.
        ends: each of these ends an answer; training targets end with the first.
    """

    start: int
    pad: int
    ends: tuple[int, ...]

    @classmethod
    def from_model(cls, model: Seq2SeqModel) -> SpecialIds:
        """Reads the ids from a built model.

        Raises:
            ModelError: it has neither a decoder start nor a padding token.
        """
        config, generation = model.config.to_dict(), model.generation_config.to_dict()
        pad = config.get(_PAD)
        start = _first(config.get(_START), generation.get(_START), *_bos(config, generation), pad)
        if start is None:
            raise ModelError(
                f"the configuration of {type(model).__name__} has no {_START} and no {_PAD}", field="model.name"
            )
        ends = _listed(_first(generation.get(_END), config.get(_END)))
        return cls(start, start if pad is None else pad, tuple(ends))

    def write(self, model: Seq2SeqModel) -> None:
        """Sets the ids in a model's configuration and generation settings."""
        for settings in (model.config, model.generation_config):
            setattr(settings, _START, self.start)
            setattr(settings, _PAD, self.pad)
        model.config.eos_token_id = self.ends[0]
        model.generation_config.eos_token_id = list(self.ends) if len(self.ends) > 1 else self.ends[0]


def special_ids_from_files(
    config: Mapping[str, Any],
    generation: Mapping[str, Any],
    defaults: Mapping[str, Any],
    tokenizer: TextTokenizer,
    name: str,
) -> SpecialIds:
    """Determines a published model's ids as the library does; a decoder start that is given nowhere is the padding.

    The tokenizer decides the padding and the end of texts. Further tokens that end the model's answers count too.

    Args:
        config: the content of its config.json.
        generation: of its generation_config.json; empty where there is none.
        defaults: of the library's configuration class.
        tokenizer: with which the model is trained.
        name: the model's, for messages.

    Raises:
        ModelError: an id is not a token of the model, its two files disagree, or an ordinary word ends its answers.
    """
    in_config, in_generation = config.get(_START), generation.get(_START)
    if None not in (in_config, in_generation) and in_config != in_generation:
        raise ModelError(
            f"{name!r} has {_START} {shown(in_config)} in its config.json and {shown(in_generation)} in "
            "its generation_config.json, so training and generation would differ. Make them equal in a copy of the "
            "folder",
            field="model.name",
        )
    start = _first(
        in_config,
        in_generation,
        defaults.get(_START),
        *_bos(config, generation),
        config.get(_PAD),
        tokenizer.pad_id,
    )
    ends = _listed(_first(generation.get(_END), config.get(_END)))
    num_embeddings = config["vocab_size"]
    for field, value in ((_START, start), *((_END, end) for end in ends)):
        if type(value) is not int or not 0 <= value < num_embeddings:
            raise ModelError(
                f"{name!r} has {field} {shown(value)}, which is not one of its tokens (0 to {num_embeddings - 1})",
                field="model.name",
            )
    for end in ends:
        if not tokenizer.is_special(end):
            raise ModelError(
                f"{name!r} ends its answers with token {end} ({_END}), which the tokenizer "
                f"{tokenizer.label!r} reads as {shown(tokenizer.tokenizer.id_to_token(end))}. Use the model's own "
                "tokenizer (model.tokenizer: null)",
                field="model.name",
            )
    return SpecialIds(
        start, tokenizer.pad_id, (tokenizer.eos_id, *(end for end in dict.fromkeys(ends) if end != tokenizer.eos_id))
    )


def _bos(config: Mapping[str, object], generation: Mapping[str, object]) -> tuple[Any, Any]:
    return generation.get("bos_token_id"), config.get("bos_token_id")


def _first(*values: object) -> Any:
    return next((value for value in values if value is not None), None)


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
