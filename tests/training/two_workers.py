"""One of two workers: fine-tunes at every ZeRO stage, keeps weights, writes losses. Run by `test_two_workers.py`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from test_loop import BUILD, PAD, made, settings
from test_saved_weights import tokenizer
from transformers import AutoModelForSeq2SeqLM

from simtune.training.engine import World
from simtune.training.loop import TrainingHooks, TrainingJob, fine_tune
from simtune.training.saved_weights import SavedWeights


def main(rank: int, size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1"}
    os.environ["MASTER_PORT"] = "0"
    store = dist.FileStore(str(folder / "store"), size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
    data = made()
    losses = {}
    for zero_stage in (0, 1, 2, 3):
        training = settings(zero_stage=zero_stage, batching="length" if zero_stage % 2 else "random")
        job = TrainingJob(data, np.arange(22), training, 2, 5, PAD)
        saved = SavedWeights(folder / f"stage-{zero_stage}", "best", "t", tokenizer())
        world = World(rank, size, "cpu")
        # The first worker's scores count. At odd stages they fall while the loss falls too.
        scores = iter([2.0, 1.0] if (zero_stage % 2 == 1) == (rank == 0) else [1.0, 2.0])

        def score_epoch(model: Any, scores: Iterator[float] = scores) -> float:
            assert not model.training
            assert all(weights.numel() for weights in model.parameters())
            return next(scores)

        model, log = fine_tune(BUILD, job, world, TrainingHooks(score_epoch=score_epoch, weights=saved))
        losses[zero_stage] = log.losses.tolist()
        assert log.score_by_epoch == ((2.0, 1.0) if zero_stage % 2 else (1.0, 2.0))
        if rank == 0:
            assert log.loss_by_epoch[1] < log.loss_by_epoch[0]
            (whole,) = (folder / f"stage-{zero_stage}").iterdir()
            assert whole.name == ("epoch-1" if zero_stage % 2 else "epoch-2")
            weights = AutoModelForSeq2SeqLM.from_pretrained(whole).state_dict()
            same = [torch.equal(value, weights[name]) for name, value in model.state_dict().items()]
            assert not any(same) if zero_stage % 2 else all(same)
    (folder / f"{rank}.json").write_text(json.dumps(losses))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
