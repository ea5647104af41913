"""T5's dropout and attention for training on a CPU, where the library's are limited by memory and random numbers.

Two costs are avoided. torch draws a random number for each element that may be dropped; here one draw serves four
elements, which approximates the rate to 1/65,536. And attention scores, the largest arrays of a step, are written once
per layer instead of once for each of bias, mask, softmax and dropout. The mathematics is the library's.

Legend: B sequences, H heads, Q queries, K keys, D width of a head; scores are [B x H, Q, K].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from simtune.training.seq2seq_model import Seq2SeqModel

_NAME = "simtune_cpu"
_LEVELS = 1 << 16


class FastDropout(nn.Dropout):
    """Dropout that draws 16 bits for each element; it follows torch's seed."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return input
        return input * _dropout_factors(input, self.p)


def _dropout_factors(like: Tensor, rate: float) -> Tensor:
    """A factor for each element: 0 where it is dropped, otherwise the one that preserves the mean."""
    num_dropped = round(rate * _LEVELS)
    drawn = torch.empty(-(-like.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    stays = drawn.view(torch.int16)[: like.numel()].view(like.shape) >= num_dropped - _LEVELS // 2
    return stays.to(like.dtype).mul_(_LEVELS / (_LEVELS - num_dropped))


class _Attention(torch.autograd.Function):
    """softmax(queries keys' + added) with dropout, times values; the gradient of `added` goes to `bias`."""

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, added: Tensor | None, rate: float
    ) -> Tensor:
        heads, num_keys = queries.shape[:2], keys.shape[2]
        queries, keys, values = (states.flatten(0, 1) for states in (queries, keys, values))
        if added is None:
            scores = torch.bmm(queries, keys.transpose(1, 2))
        else:
            added = added.expand(*heads, queries.shape[1], num_keys).reshape(-1, queries.shape[1], num_keys)
            scores = torch.baddbmm(added, queries, keys.transpose(1, 2))
        weights = torch.softmax(scores, -1)
        del scores
        factors = _dropout_factors(weights, rate) if rate else None
        ctx.save_for_backward(queries, keys, values, weights, factors)
        ctx.heads, ctx.bias_shape = heads, None if bias is None else bias.shape
        mixed = torch.bmm(weights if factors is None else weights * factors, values)
        attended: Tensor = mixed.unflatten(0, heads)
        return attended

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, weights, factors = ctx.saved_tensors
        gradient = gradients[0].flatten(0, 1)
        of_weights = torch.bmm(gradient, values.transpose(1, 2))
        if factors is None:
            of_values = torch.bmm(weights.transpose(1, 2), gradient)
        else:
            of_weights.mul_(factors)
            of_values = torch.bmm(factors.mul_(weights).transpose(1, 2), gradient)
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        of_queries = torch.bmm(of_scores, keys)
        of_keys = torch.bmm(of_scores.transpose(1, 2), queries)
        of_bias = None
        if ctx.bias_shape is not None and ctx.needs_input_grad[3]:
            of_bias = of_scores.unflatten(0, ctx.heads).sum_to_size(ctx.bias_shape)
        states = (of_queries, of_keys, of_values)
        return (*(state.unflatten(0, ctx.heads) for state in states), of_bias, None, None)


class _Added:
    """The sum of position bias and mask, computed once for all layers of a stack, which all get the same two."""

    def __init__(self) -> None:
        self._of: tuple[Tensor | None, Tensor | None] = (None, None)
        self._sum: Tensor | None = None

    def __call__(self, bias: Tensor | None, mask: Tensor | None) -> Tensor | None:
        if bias is None or mask is None:
            return mask if bias is None else bias.detach()
        if self._of[0] is not bias or self._of[1] is not mask:
            self._of, self._sum = (bias, mask), bias.detach() + mask
        return self._sum

    def forget(self) -> None:
        self._of, self._sum = (None, None), None


_added = _Added()


def _attend(
    module: nn.Module,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    dropout: float = 0.0,
    position_bias: Tensor | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """The attention function that the library calls; T5 does not scale scores."""
    # Cross-attention has a bias of zeros, without a gradient.
    bias = position_bias if position_bias is not None and position_bias.requires_grad else None
    attend: Callable[..., Tensor] = _Attention.apply
    return attend(queries, keys, values, bias, _added(bias, mask), dropout).transpose(1, 2), None


class CpuKernels:
    """Replaces dropout and attention of a T5 during a training."""

    def __init__(self, model: Seq2SeqModel) -> None:
        AttentionInterface.register(_NAME, _attend)
        AttentionMaskInterface.register(_NAME, eager_mask)
        self._model = model
        self._before = model.config._attn_implementation
        model.set_attn_implementation(_NAME)
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if type(child) is nn.Dropout:
                    setattr(parent, name, FastDropout(child.p))

    def remove(self) -> None:
        """Restores the library's attention; dropout has no effect after training."""
        self._model.set_attn_implementation(self._before)
        _added.forget()
