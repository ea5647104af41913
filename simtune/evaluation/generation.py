"""Greedy answers to test sources as text.

simtune's own decoder gives them if the model's family supports it, else the library's.

The sweep decides how answers are generated and how long they may be, whatever a published model proposes. A model's
rules for tokens (forced, suppressed, not to be repeated) are part of the model and apply.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from simtune.evaluation.greedy import DecodingJob, decode_greedily
from simtune.evaluation.prediction_shards import Prediction
from simtune.prompting.tk_instruct import close_spaces
from simtune.prompting.tokenizer import TextTokenizer
from simtune.training.examples import Ragged
from simtune.training.families.registry import family_of
from simtune.training.seq2seq_model import Seq2SeqModel
from simtune.training.special_ids import SpecialIds
from simtune.training.steps import pad_rows

_TOKEN_RULES = (
    "bad_words_ids",
    "begin_suppress_tokens",
    "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "guidance_scale",
    "min_length",
    "min_new_tokens",
    "no_repeat_ngram_size",
    "remove_invalid_values",
    "repetition_penalty",
    "sequence_bias",
    "suppress_tokens",
)


def generate(
    model: Seq2SeqModel,
    sources: Ragged,
    numbers: np.ndarray,
    tokenizer: TextTokenizer,
    max_new_tokens: int,
    tokens_per_batch: int,
) -> dict[int, Prediction]:
    """Generates answers greedily.

    Args:
        model: any encoder-decoder model.
        sources: token ids of all sources.
        numbers: which of the sources to answer.
        tokenizer: the model's.
        max_new_tokens: the longest answer.
        tokens_per_batch: source tokens, including padding, of the rows that are decoded together.

    Returns:
        For each source number its answer, decoded as Tk-Instruct does.
    """
    model.eval()
    family = family_of(model)
    layers = family.decoder_layers(model) if family is not None else None
    job = DecodingJob(sources, numbers, tokenizer.pad_id, tokenizer.eos_id, max_new_tokens, tokens_per_batch)
    if layers is not None and not token_rules(model):
        answers = decode_greedily(layers, job)
    else:
        answers = decode_by_library(model, job)
    predictions = {}
    not_text = {job.pad_id, job.eos_id, *SpecialIds.from_model(model).ends}
    for number in numbers.tolist():
        tokens = [token for token in answers[number] if token not in not_text]
        predictions[number] = Prediction(close_spaces(tokenizer.decode(tokens)).strip(), len(tokens))
    return predictions


def token_rules(model: Seq2SeqModel) -> dict[str, Any]:
    """A model's own rules for the tokens of an answer, by their names in generation_config.json."""
    from transformers import GenerationConfig

    without = GenerationConfig._get_default_generation_params()
    found = {name: getattr(model.generation_config, name, None) for name in _TOKEN_RULES}
    return {name: rule for name, rule in found.items() if rule is not None and rule != without.get(name)}


def decode_by_library(model: Seq2SeqModel, job: DecodingJob) -> dict[int, list[int]]:
    """Tokens by source number from the model's own `generate`, for models that simtune's decoder does not support."""
    import torch
    from transformers import GenerationConfig

    ids = SpecialIds.from_model(model)
    ends = list(dict.fromkeys((job.eos_id, *ids.ends)))
    config = GenerationConfig(
        **token_rules(model),
        max_new_tokens=job.max_new_tokens,
        do_sample=False,
        num_beams=1,
        pad_token_id=job.pad_id,
        eos_token_id=ends,
        decoder_start_token_id=ids.start,
    )
    answers = {}
    # The library would also apply a published model's other settings, such as length limits and beams.
    published, model.generation_config = model.generation_config, GenerationConfig()
    try:
        for batch in _batches(job.sources.lengths, job.numbers, job.tokens_per_batch):
            padded = pad_rows(job.sources, batch, job.pad_id)
            ids_BS, mask_BS = (torch.from_numpy(array).to(model.device) for array in padded)
            with torch.inference_mode():
                output_BL = model.generate(input_ids=ids_BS, attention_mask=mask_BS, generation_config=config)
            for number, row in zip(batch.tolist(), output_BL[:, 1:].tolist(), strict=True):
                length = next((position for position, token in enumerate(row, start=1) if token in ends), len(row))
                answers[number] = row[:length]
    finally:
        model.generation_config = published
    return answers


def _batches(lengths: np.ndarray, numbers: np.ndarray, tokens_per_batch: int) -> Iterator[np.ndarray]:
    order = numbers[np.lexsort((numbers, -lengths[numbers]))]
    start = 0
    while start < len(order):
        # Longest first: the first row decides the width.
        num_rows = max(1, tokens_per_batch // int(lengths[order[start]]))
        yield order[start : start + num_rows]
        start += num_rows
