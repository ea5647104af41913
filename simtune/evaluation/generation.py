"""Greedy decoding of test sources, dealt out among the workers of a trial."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from simtune.prompting.tk_instruct import close_spaces
from simtune.prompting.tokenizer import TextTokenizer
from simtune.training.batching import pad_rows
from simtune.training.engine import World
from simtune.training.examples import Ragged


def share_of(num_sources: int, lengths: np.ndarray, batch_size: int, world: World) -> list[np.ndarray]:
    """A worker's batches of source numbers: longest first, whole batches dealt out in turn.

    Batches do not depend on the number of workers, so predictions do not either.
    """
    order = np.lexsort((np.arange(num_sources), -lengths))
    batches = [order[start : start + batch_size] for start in range(0, num_sources, batch_size)]
    return batches[world.rank :: world.size]


def generate(
    model: Any,
    sources: Ragged,
    batches: Sequence[np.ndarray],
    tokenizer: TextTokenizer,
    max_new_tokens: int,
    device: str,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> dict[int, tuple[str, int]]:
    """Decodes greedily.

    Returns:
        for each source number its text (without special tokens, as Tk-Instruct decodes it) and its number of tokens.
    """
    import torch
    from transformers import GenerationConfig

    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        pad_token_id=tokenizer.pad_id,
        eos_token_id=tokenizer.eos_id,
        decoder_start_token_id=tokenizer.pad_id,
    )
    # A published model's own generation settings (length limits, beams) would creep in beside ours.
    model.generation_config = GenerationConfig()
    model.eval()
    predictions: dict[int, tuple[str, int]] = {}
    for done, numbers in enumerate(batches, start=1):
        ids_BS, mask_BS = pad_rows(sources, numbers, tokenizer.pad_id)
        with torch.inference_mode():
            output_BL = model.generate(
                input_ids=torch.from_numpy(ids_BS).to(device),
                attention_mask=torch.from_numpy(mask_BS).to(device),
                generation_config=config,
            )
        for number, row in zip(numbers, output_BL[:, 1:].tolist(), strict=True):
            kept = row[: row.index(tokenizer.eos_id)] if tokenizer.eos_id in row else row
            kept = [token for token in kept if token != tokenizer.pad_id]
            predictions[int(number)] = (close_spaces(tokenizer.decode(kept)).strip(), len(kept))
        on_batch(done, len(batches))
    return predictions
