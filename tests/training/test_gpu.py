"""Training on a CUDA device: the losses of plain PyTorch on the CPU, with everything that saves memory or time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_checkpoints import CutError, at
from test_checkpoints import train as train_with_dropout
from test_loop import BUILD, PAD, made, plain_losses, settings

from simtune.training.engine import single_process_world
from simtune.training.loop import TrainingJob, fine_tune

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.mark.parametrize(
    "changes",
    [
        {"zero_stage": 3},
        {"gradient_checkpointing": True},
        {"zero_stage": 1, "offload": "optimizer"},
        {"zero_stage": 3, "offload": "parameters"},
        {"compile": True},
    ],
    ids=str,
)
def test_the_losses_are_those_of_plain_pytorch_on_a_cpu(changes: dict[str, Any]) -> None:
    training = settings(**changes)
    model, log = fine_tune(BUILD, TrainingJob(made(), np.arange(22), training, 2, 5, PAD), single_process_world())
    np.testing.assert_allclose(log.losses, plain_losses(made(), training), atol=2e-5)
    assert next(model.parameters()).device.type == "cuda"
    assert not torch.backends.cuda.cudnn_sdp_enabled()


@pytest.mark.parametrize(("zero_stage", "precision"), [(0, "fp32"), (3, "fp32"), (2, "bf16")])
def test_an_interrupted_training_continues_with_the_same_losses(
    tmp_path: Path, zero_stage: int, precision: str
) -> None:
    training = settings(zero_stage=zero_stage, precision=precision)
    _, undisturbed = train_with_dropout(training)
    with pytest.raises(CutError):
        train_with_dropout(training, at(tmp_path), cut_at=4)
    _, log = train_with_dropout(training, at(tmp_path))
    # Sums of a GPU differ from run to run in their last digits.
    np.testing.assert_allclose(log.losses, undisturbed.losses, rtol=1e-5 if precision == "fp32" else 2e-2)
