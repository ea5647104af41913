"""Training's own dropout and attention on processors: the library's numbers and gradients, and dropout's own laws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from simtune.training.families.t5_attention import CpuKernels, FastDropout

SIZES = {"d_model": 24, "d_kv": 6, "d_ff": 32, "num_layers": 2, "num_heads": 3, "vocab_size": 40}


def model(dropout: float = 0.0, **more: Any) -> Any:
    torch.manual_seed(0)
    return T5ForConditionalGeneration(T5Config(dropout_rate=dropout, decoder_start_token_id=0, **SIZES, **more)).train()


def gradients(network: Any, padded: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 40, (4, 11), generator=generator)
    mask = torch.ones_like(ids)
    if padded:
        mask[0, 7:] = mask[2, 3:] = 0
    loss = network(input_ids=ids, attention_mask=mask, labels=torch.randint(3, 40, (4, 5), generator=generator)).loss
    loss.backward()
    return loss.detach(), {name: weights.grad for name, weights in network.named_parameters()}


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", [{}, {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}])
def test_losses_and_all_gradients_are_the_library_s(padded: bool, checkpointing: bool, kind: dict[str, Any]) -> None:
    library, ours = model(**kind), model(**kind)
    kernels = CpuKernels(ours)
    if checkpointing:
        ours.gradient_checkpointing_enable({"use_reentrant": False})
    loss, expected = gradients(library, padded)
    found_loss, found = gradients(ours, padded)
    torch.testing.assert_close(found_loss, loss)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-4, msg=name)
    kernels.remove()
    assert ours.config._attn_implementation == library.config._attn_implementation


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_keeps_the_mean_and_drops_its_share(rate: float) -> None:
    torch.manual_seed(3)
    layer = FastDropout(rate).train()
    dropped = layer(torch.ones(400, 501))
    assert float((dropped == 0).float().mean()) == pytest.approx(rate, abs=0.005)
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.01)
    # No pattern along rows or columns: neighbours are dropped independently.
    gone = (dropped == 0).float()
    for one, two in ((gone[:, 1:], gone[:, :-1]), (gone[1:], gone[:-1]), (gone[:, 4:], gone[:, :-4])):
        assert float((one * two).mean()) == pytest.approx(rate**2, abs=0.005)
    assert torch.equal(layer.eval()(torch.ones(3)), torch.ones(3))


def test_dropout_in_attention_learns_from_what_it_kept_and_follows_the_seed() -> None:
    network = model(dropout=0.3)
    CpuKernels(network)

    def run(seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        network.zero_grad()
        torch.manual_seed(seed)
        loss, found = gradients(network, padded=True)
        return loss, {name: gradient.clone() for name, gradient in found.items()}

    (one, first), (again, second), (other, _) = run(5), run(5), run(6)
    assert torch.equal(one, again)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(one, other)
    # A finite difference along the gradient, the same places dropped.
    name, weights = next((n, w) for n, w in network.named_parameters() if n.endswith("SelfAttention.v.weight"))
    step = 1e-2 * first[name] / first[name].norm()
    with torch.no_grad():
        weights += step
    higher, _ = run(5)
    with torch.no_grad():
        weights -= 2 * step
    lower, _ = run(5)
    slope = (higher - lower) / 2e-2
    assert float(slope) == pytest.approx(float(first[name].norm()), rel=0.05)
