"""Rank classification: the answer choice of a prompt that the model considers most likely.

T0's rule (Sanh et al. 2022): the score of a choice is the sum of the log-probabilities of its tokens, not divided by
its length; the highest score wins. A prompt is encoded once, however many choices it has, and only the positions of
choice tokens go through the output layer.

Legend: P prompts, C choices of a prompt, S source tokens, L choice tokens, M model width, V vocabulary, N positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simtune.errors import ConfigError, UserError, shown
from simtune.prompting.tokenizer import TextTokenizer
from simtune.training.examples import Ragged, TokenisedTasks
from simtune.training.families.family import DecoderLayers
from simtune.training.families.registry import family_of
from simtune.training.seq2seq_model import Seq2SeqModel
from simtune.training.side_by_side import side_by_side
from simtune.training.steps import pad_rows
from simtune.wording import counted

if TYPE_CHECKING:
    from torch import Tensor

# Logits of this many positions exist at a time: 32,000 pieces x 512 positions in fp32 are 64 MiB.
_POSITIONS_AT_ONCE = 512

Choices = Sequence[Sequence[int]]
"""The token ids of a prompt's answer choices, the end of the sequence included."""


@dataclass(frozen=True)
class Ranking:
    """The choices of one prompt.

    Attributes:
        scores: float64 [C], in nats; log-probabilities, or their means over tokens where normalised.
        winner: number of the best choice; of equal ones the first.
    """

    scores: np.ndarray
    winner: int


def rank_choices(
    model: Seq2SeqModel,
    sources: Ragged,
    choices: Sequence[Choices],
    pad_id: int,
    tokens_per_batch: int,
    normalised: bool = False,
) -> list[Ranking]:
    """Ranks the answer choices of each source.

    Args:
        model: of a family with decoder layers, in evaluation mode.
        choices: for each source its choices, at least two different ones.
        sources: token ids of the prompts.
        pad_id: fills short sources and choices.
        tokens_per_batch: most source tokens, and most choice tokens, including padding, at a time.
        normalised: means over a choice's tokens instead of sums, which favour short choices.

    Raises:
        UserError: choices that cannot be ranked, or a model that is not supported.
    """
    _check(sources, choices)
    family = family_of(model)
    layers = family.decoder_layers(model) if family is not None else None
    if layers is None:
        dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
        raise UserError(
            f"rank classification: not supported for {type(model).__name__} in {dtype}; it needs a model family with "
            "decoder layers of its own, such as T5 and mT5 in fp32 or bf16"
        )
    most_tokens = layers.most_tokens(tokens_per_batch)

    def score(prompts: np.ndarray) -> np.ndarray:
        chosen = [choices[prompt] for prompt in prompts]
        return _score(layers, pad_rows(sources, prompts, pad_id), chosen, pad_id, most_tokens)

    batches = list(_batches(sources, choices, most_tokens))
    scored = side_by_side(score, batches, layers.device)
    rankings: dict[int, Ranking] = {}
    for prompts, scores_PC in zip(batches, scored, strict=True):
        for prompt, scores_C in zip(prompts.tolist(), scores_PC, strict=True):
            scores = scores_C[: len(choices[prompt])]
            if normalised:
                scores = scores / [len(choice) for choice in choices[prompt]]
            rankings[prompt] = Ranking(scores, int(scores.argmax()))
    return [rankings[prompt] for prompt in range(len(sources))]


def check_choices(
    test: TokenisedTasks,
    references: Sequence[Sequence[str]],
    tokenizer: TextTokenizer,
    max_target_tokens: int,
    suite: str,
) -> None:
    """Checks, before anything is trained, that answer choices can be told apart and that one of them is right.

    Args:
        test: the tokenised tasks of a suite that ranks.
        references: of each example, as its score compares them with the choice that wins.
        tokenizer: of the model.
        max_target_tokens: where choices were cut.
        suite: the dotted name of its section, for messages.

    Raises:
        ConfigError: two choices of a task are the same tokens, or no choice of a prompt is right.
    """
    if test.choices is None:
        return
    stripped: dict[tuple[str, ...], set[str]] = {}
    for task, start, end in zip(test.names, test.task_offsets, test.task_offsets[1:], strict=False):
        for example in range(start, end):
            texts = test.choices.texts_of(example)
            if texts not in stripped:
                rows = [row.tolist() for row in test.choices.ids_of(example)]
                if problem := _indistinct(task, texts, rows, tokenizer, max_target_tokens):
                    raise ConfigError(problem, field=suite)
                stripped[texts] = {text.strip() for text in texts}
            if stripped[texts].isdisjoint(text.strip() for text in references[example]):
                raise ConfigError(_no_right_choice(task, texts, references[example]), field=suite)


def _indistinct(
    task: str, texts: Sequence[str], rows: Sequence[list[int]], tokenizer: TextTokenizer, max_target_tokens: int
) -> str:
    """Why these choices cannot be ranked; empty if they can."""
    if len(texts) < 2:
        return (
            f"task {task}: a prompt has {counted(len(texts), 'answer choice')}; with fewer than two there is "
            "nothing to rank. Leave it out, or generate its answers (method: generate)"
        )
    for number, row in enumerate(rows):
        if (first := rows.index(row)) < number:
            return _same_tokens(task, texts[first], texts[number], tokenizer, max_target_tokens)
    return ""


def _no_right_choice(task: str, texts: Sequence[str], references: Sequence[str]) -> str:
    some = ", ".join(shown(text, 30) for text in texts[:5]) + (", ..." if len(texts) > 5 else "")
    return (
        f"task {task}: the answer choices of a prompt ({some}) do not include its correct answer "
        f"{shown(references[0], 60)}, so every choice would count as wrong. Correct the choices of the task's prompt "
        "format, or generate its answers (method: generate)"
    )


def _same_tokens(task: str, first: str, second: str, tokenizer: TextTokenizer, max_target_tokens: int) -> str:
    """What to do about two answer choices that are the same tokens."""
    whole = tokenizer.encode_batch([first, second])
    differ = next((number for number, (one, other) in enumerate(zip(*whole, strict=False)) if one != other), None)
    said = f"task {task}: the answer choices {shown(first, 60)} and {shown(second, 60)} are the same tokens"
    if differ is None:
        return (
            f"{said} to the model's tokenizer, so the second could never win. Correct the task's outputs, name other "
            "categories, or generate its answers (method: generate)"
        )
    # The token that differs, and the end of the sequence.
    return (
        f"{said} once they are cut at training.max_target_tokens: {max_target_tokens}, so the second could never "
        f"win. Set it to {differ + 2} or more"
    )


def _check(sources: Ragged, choices: Sequence[Choices]) -> None:
    if len(sources) != len(choices):
        raise UserError(
            f"rank classification: {counted(len(sources), 'prompt')}, but answer choices for {len(choices)}"
        )
    for prompt, of_prompt in enumerate(choices):
        texts = [tuple(choice) for choice in of_prompt]
        if len(texts) < 2:
            raise UserError(
                f"rank classification: prompt {prompt} has {counted(len(texts), 'answer choice')}; with fewer than "
                "two there is nothing to rank. Leave it out, or generate its answer"
            )
        for number, text in enumerate(texts):
            if not text:
                raise UserError(f"rank classification: choice {number} of prompt {prompt} has no tokens")
            if (first := texts.index(text)) < number:
                raise UserError(
                    f"rank classification: choices {first} and {number} of prompt {prompt} are the same tokens, so the "
                    "second could never win. Correct the prompt's answer choices"
                )


def _batches(sources: Ragged, choices: Sequence[Choices], most_tokens: int) -> Iterator[np.ndarray]:
    """Prompts with similar numbers of choices and similar lengths together; longest first."""
    counts = np.array([len(of_prompt) for of_prompt in choices])
    longest = np.array([max(map(len, of_prompt)) for of_prompt in choices])
    widths = np.maximum(sources.lengths, longest)
    order = np.lexsort((np.arange(len(widths)), -widths, -counts))
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - start) * widths[order[start : end + 1]].max() > most_tokens:
            yield order[start:end]
            start = end


def _score(
    layers: DecoderLayers,
    padded: tuple[np.ndarray, np.ndarray],
    choices: Sequence[Choices],
    pad_id: int,
    most_tokens: int,
) -> np.ndarray:
    """Sums of log-probabilities, float64 [P, C]; 0 where a prompt has fewer choices than others."""
    import torch

    ids_PS, mask_PS = (torch.from_numpy(array).to(layers.device) for array in padded)
    encoded_PSM = layers.encode(ids_PS, mask_PS)
    states = [layers.source_states(layer, encoded_PSM) for layer in range(layers.num_decoder_layers)]
    source_mask = layers.source_mask(mask_PS)
    num_choices, length = max(map(len, choices)), max(len(choice) for of_prompt in choices for choice in of_prompt)
    targets_PCL = np.full((len(choices), num_choices, length), pad_id, dtype=np.int64)
    is_target_PCL = np.zeros(targets_PCL.shape, dtype=bool)
    for prompt, of_prompt in enumerate(choices):
        for number, choice in enumerate(of_prompt):
            targets_PCL[prompt, number, : len(choice)] = choice
            is_target_PCL[prompt, number, : len(choice)] = True
    seen = torch.ones(length, length, dtype=torch.bool, device=layers.device).tril()
    bias = layers.target_bias(length, length)
    bias = torch.where(seen, bias, torch.finfo(bias.dtype).min)
    scores_PC = np.zeros((len(choices), num_choices))
    at_once = max(1, most_tokens // (len(choices) * length))
    for first in range(0, num_choices, at_once):
        targets_NL = targets_PCL[:, first : first + at_once].reshape(-1, length)
        is_target_NL = is_target_PCL[:, first : first + at_once].reshape(-1, length)
        # Each position reads the token before it; the first one reads the decoder's start token.
        read_NL = np.concatenate([np.full((len(targets_NL), 1), layers.ids.start), targets_NL[:, :-1]], axis=1)
        hidden_NLM = layers.decode(torch.from_numpy(read_NL).to(layers.device), bias, states, source_mask)
        rows, _ = np.nonzero(is_target_NL)
        positions = torch.from_numpy(is_target_NL).to(layers.device)
        logs = _log_probabilities(
            layers, hidden_NLM[positions], torch.from_numpy(targets_NL[is_target_NL]).to(layers.device)
        )
        sums = np.bincount(rows, weights=logs, minlength=len(targets_NL))
        scores_PC[:, first : first + at_once] = sums.reshape(len(choices), -1)
    return scores_PC


def _log_probabilities(layers: DecoderLayers, hidden_NM: Tensor, targets_N: Tensor) -> np.ndarray:
    """Log-probability of one token at each position, float64 [N]."""
    parts = []
    for start in range(0, len(targets_N), _POSITIONS_AT_ONCE):
        part = slice(start, start + _POSITIONS_AT_ONCE)
        logits_NV = layers.logits(hidden_NM[part]).float()
        chosen_N = logits_NV.gather(1, targets_N[part, None])[:, 0]
        parts.append((chosen_N - logits_NV.logsumexp(1)).double().cpu().numpy())
    return np.concatenate(parts)
