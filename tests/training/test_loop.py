"""The training loop through DeepSpeed against the same training written plainly in PyTorch."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from simtune.config import TrainingSettings
from simtune.errors import NonFiniteLossError
from simtune.training import loop
from simtune.training.engine import World, engine_config, single_process_world
from simtune.training.examples import Ragged, TokenisedTasks
from simtune.training.learning_rate import learning_rate_factor
from simtune.training.loop import TrainingJob, fine_tune
from simtune.training.model import ResolvedModel, build_model
from simtune.training.steps import collate, training_steps

PAD, EOS, VOCABULARY = 0, 1, 96
CONFIG = {
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 1,
    "num_decoder_layers": 1,
    "num_heads": 2,
    "vocab_size": VOCABULARY,
    "pad_token_id": PAD,
    "eos_token_id": EOS,
    "decoder_start_token_id": PAD,
    "dropout_rate": 0.0,
}
BUILD = partial(build_model, ResolvedModel("t5", CONFIG, "", None, "test"), 0, None)


def made() -> TokenisedTasks:
    """22 examples of two tasks; eight have two references."""
    random = np.random.default_rng(0)
    sources = [[*random.integers(3, VOCABULARY, random.integers(3, 20)).tolist(), EOS] for _ in range(22)]
    references = [[*random.integers(3, VOCABULARY, random.integers(1, 5)).tolist(), EOS] for _ in range(30)]
    counts = [2] * 8 + [1] * 14
    return TokenisedTasks(
        names=("one", "two"),
        task_offsets=np.array([0, 10, 22]),
        sources=Ragged.from_rows(sources),
        references=Ragged.from_rows(references),
        reference_offsets=np.concatenate([[0], np.cumsum(counts)]),
        num_cut=0,
        num_left_out=0,
    )


@pytest.fixture(scope="module")
def data() -> TokenisedTasks:
    return made()


def settings(**changes: Any) -> TrainingSettings:
    return TrainingSettings(
        **{
            "epochs": 2,
            "learning_rate": 3e-3,
            "schedule": "linear",
            "warmup_steps": 2,
            "weight_decay": 0.01,
            "batch_size": 8,
            "precision": "fp32",
            "zero_stage": 0,
            **changes,
        }
    )


def plain_losses(
    data: TokenisedTasks, training: TrainingSettings, build: Callable[[], Any] = BUILD, pad_id: int = PAD
) -> list[float]:
    """One process, no DeepSpeed, whole batches, seed 5: the slow obvious version."""
    model = build()
    model.train()
    betas = (0.9, training.adam_beta2)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=training.learning_rate, betas=betas, weight_decay=training.weight_decay
    )
    steps = training_steps(data, np.arange(len(data.sources)), training, seed=5)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate_factor(training, len(steps)))
    losses = []
    for step in steps:
        batch = collate(data, step.examples, step.references, pad_id)
        loss = model(
            input_ids=torch.tensor(batch.source_ids_BS),
            attention_mask=torch.tensor(batch.source_mask_BS),
            labels=torch.tensor(batch.labels_BL),
        ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.gradient_clipping)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
@pytest.mark.parametrize("accumulation_steps", [1, 4])
def test_every_loss_equals_plain_pytorch(data: TokenisedTasks, zero_stage: int, accumulation_steps: int) -> None:
    training = settings(zero_stage=zero_stage, batching="length" if accumulation_steps == 4 else "random")
    model, log = fine_tune(
        BUILD, TrainingJob(data, np.arange(22), training, accumulation_steps, 5, PAD), single_process_world()
    )
    np.testing.assert_allclose(log.losses, plain_losses(data, training), atol=1e-5)
    assert log.num_steps == 6
    assert log.losses[-1] < log.losses[0]
    assert log.num_source_tokens == 2 * len(data.sources.ids)
    assert not any(parameter.numel() == 0 for parameter in model.parameters())


@pytest.mark.parametrize(
    "changes", [{"gradient_checkpointing": True}, {"tokens_per_batch": 96, "max_source_tokens": 24}]
)
def test_what_saves_memory_changes_no_loss(data: TokenisedTasks, changes: dict[str, Any]) -> None:
    training = settings(**changes)
    _, log = fine_tune(BUILD, TrainingJob(data, np.arange(22), training, 2, 5, PAD), single_process_world())
    np.testing.assert_allclose(log.losses, plain_losses(data, training), atol=1e-5)


def test_a_compiled_model_changes_no_loss(data: TokenisedTasks, monkeypatch: pytest.MonkeyPatch) -> None:
    # Traced as usual, but run without compiling, which takes a compiler and a minute.
    compiled: list[bool] = []
    real = torch.nn.Module.compile

    def traced(module: Any, dynamic: bool) -> None:
        compiled.append(dynamic)
        real(module, backend="eager", dynamic=dynamic)

    monkeypatch.setattr(torch.nn.Module, "compile", traced)
    training = settings(compile=True)
    _, log = fine_tune(BUILD, TrainingJob(data, np.arange(22), training, 1, 5, PAD), single_process_world())
    np.testing.assert_allclose(log.losses, plain_losses(data, training), atol=1e-5)
    assert compiled == [True, True]


@pytest.mark.parametrize(("offload", "moved"), [("optimizer", {"optimizer"}), ("parameters", {"optimizer", "param"})])
def test_offloading_moves_what_it_says_and_leaves_adam_to_deepspeed(offload: str, moved: set[str]) -> None:
    world = World(0, 1, "cuda:0")
    kept = engine_config(settings(zero_stage=3), 1, world)
    assert kept["optimizer"]["params"]["fused"]
    assert kept["zero_optimization"] == {"stage": 3}
    config = engine_config(settings(zero_stage=3, offload=offload), 1, world)
    assert {f"offload_{part}" for part in moved} | {"stage"} == set(config["zero_optimization"])
    assert "torch_adam" not in config["optimizer"]["params"]


def test_same_inputs_same_losses_and_seed_changes_them(data: TokenisedTasks) -> None:
    def losses(seed: int) -> bytes:
        return fine_tune(BUILD, TrainingJob(data, np.arange(22), settings(), 1, seed, PAD), single_process_world())[
            1
        ].losses.tobytes()

    assert losses(1) == losses(1) != losses(2)


def test_bf16_trains(data: TokenisedTasks) -> None:
    training = settings(precision="bf16", zero_stage=2, epochs=6)
    model, log = fine_tune(BUILD, TrainingJob(data, np.arange(22), training, 1, 5, PAD), single_process_world())
    assert log.losses[-1] < log.losses[0]
    assert next(model.parameters()).dtype is torch.bfloat16


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("zero_stage", [0, 2])
def test_a_loss_that_is_not_finite_leaves_the_weights_of_the_step_before(
    data: TokenisedTasks, monkeypatch: pytest.MonkeyPatch, value: float, zero_stage: int
) -> None:
    built: list[Any] = []
    weights: list[list[torch.Tensor]] = []
    real = loop.summed_loss

    def build() -> Any:
        built.append(BUILD())
        return built[-1]

    def hooked(*arguments: Any) -> Any:
        weights.append([parameter.detach().clone() for parameter in built[0].parameters()])
        # Two micro-batches a step; the second one of the third step.
        return real(*arguments) * (value if len(weights) == 6 else 1.0)

    monkeypatch.setattr(loop, "summed_loss", hooked)
    with pytest.raises(NonFiniteLossError, match=f"the loss is {value} at step 3") as caught:
        fine_tune(
            build, TrainingJob(data, np.arange(22), settings(zero_stage=zero_stage), 2, 5, PAD), single_process_world()
        )
    assert caught.value.step == 3
    assert len(weights) == 6
    assert all(torch.equal(now, then) for now, then in zip(built[0].parameters(), weights[4], strict=True))
    assert any(not torch.equal(then, at_start) for then, at_start in zip(weights[4], weights[0], strict=True))


def test_zero_3_has_no_whole_model_on_a_device_during_training_and_no_optimizer_after_it(
    data: TokenisedTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    import deepspeed

    gathered: list[int] = []
    copies: list[weakref.ref[Any]] = []
    collect, start = deepspeed.zero.GatheredParameters, loop.start_engine

    def build() -> Any:
        model = BUILD()
        if not copies:
            # DeepSpeed, too, would move all of a model that is not divided yet.
            model.to = lambda *_, **__: pytest.fail("the whole model was moved")
        return model

    def started(*arguments: Any) -> Any:
        engine = start(*arguments)
        copies.extend(weakref.ref(array) for array in engine.optimizer.fp32_partitioned_groups_flat)
        return engine

    monkeypatch.setattr(loop, "start_engine", started)
    monkeypatch.setattr(
        deepspeed.zero, "GatheredParameters", lambda parts: (gathered.append(len(parts)), collect(parts))[1]
    )
    job = TrainingJob(data, np.arange(22), settings(zero_stage=3, precision="bf16"), 1, 5, PAD)
    model, _ = fine_tune(build, job, single_process_world())
    assert gathered == [1] * len(list(model.parameters()))
    assert {array.dtype for array in model.parameters()} == {torch.bfloat16}
    assert copies
    assert [copy() for copy in copies] == [None] * len(copies)


def test_schedule_warms_up_and_falls_to_zero() -> None:
    factor = learning_rate_factor(settings(warmup_steps=4), 10)
    assert [factor(step) for step in (0, 3, 4, 9)] == [0.25, 1.0, 1.0, pytest.approx(1 / 6)]
    assert learning_rate_factor(settings(schedule="constant", warmup_steps=0), 10)(9) == 1.0
