"""The DeepSpeed engine of a trial, and a process group for it where no launcher made one."""

from __future__ import annotations

import atexit
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from simtune.config.settings import TrainingSettings
from simtune.training.learning_rate import learning_rate_factor
from simtune.training.seq2seq_model import ModelOutput, Seq2SeqModel

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class World:
    """A worker's position among the workers of its trial.

    Attributes:
        rank: 0 to size - 1; rank 0 writes the results.
        size: workers.
        device: `cpu`, or the worker's own GPU, such as `cuda:1`, which is torch's current device too.
        host: what users call the machine of this worker.
    """

    rank: int
    size: int
    device: str
    host: str = field(default_factory=socket.gethostname)


class CheckpointReader(Protocol):
    """How an engine reads the files of its checkpoints.

    Attributes:
        load: reads one file.
    """

    load: Callable[..., object]


class Engine(Protocol):
    """What simtune uses of DeepSpeed's engine, which has no types.

    Attributes:
        module: the model, whose weights are divided among the workers under ZeRO-3.
        optimizer: DeepSpeed's, around `basic_optimizer`.
        basic_optimizer: torch's.
        checkpoint_engine: reads checkpoints.
    """

    module: Seq2SeqModel
    optimizer: object
    basic_optimizer: torch.optim.Optimizer
    checkpoint_engine: CheckpointReader

    def __call__(
        self, *, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor, use_cache: bool
    ) -> ModelOutput: ...

    def train(self) -> object: ...

    def eval(self) -> object: ...

    def backward(self, loss: Tensor) -> object: ...

    def step(self) -> None: ...

    def save_checkpoint(self, folder: str, *, tag: str, save_latest: bool) -> object: ...

    def load_checkpoint(self, folder: str, *, tag: str) -> object: ...

    def destroy(self) -> None: ...


def host_names(world: World) -> str:
    """The names of the hosts of a trial's workers, separated by commas; all workers call this together."""
    if world.size == 1:
        return world.host
    import torch.distributed as dist

    hosts = [""] * world.size
    dist.all_gather_object(hosts, world.host)
    return ", ".join(dict.fromkeys(hosts))


def single_process_world() -> World:
    """A world of one worker, this process; DeepSpeed needs a process group even then.

    The group is created once and stays: DeepSpeed keeps references to it after an engine is destroyed.
    """
    import torch
    import torch.distributed as dist

    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    if not dist.is_initialized():
        # DeepSpeed reads these variables, which a launcher would set; without them it looks for MPI.
        alone = {
            "RANK": "0",
            "LOCAL_RANK": "0",
            "WORLD_SIZE": "1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": "0",
        }
        os.environ.update(alone)
        dist.init_process_group("gloo" if device == "cpu" else "nccl", store=dist.HashStore(), rank=0, world_size=1)
        atexit.register(dist.destroy_process_group)
    return World(0, 1, device)


def engine_config(training: TrainingSettings, accumulation_steps: int, world: World) -> dict[str, Any]:
    """DeepSpeed's configuration for these settings.

    The batches alone decide what a step contains; DeepSpeed gets a batch size only because it requires one.
    """
    micro_batch_size = max(1, training.batch_size // (accumulation_steps * world.size))
    zero: dict[str, Any] = {"stage": training.zero_stage}
    if training.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    if training.offload == "parameters":
        zero["offload_param"] = {"device": "cpu", "pin_memory": True}
    adam: dict[str, Any] = {
        "lr": training.learning_rate,
        "betas": [0.9, training.adam_beta2],
        "weight_decay": training.weight_decay,
    }
    if training.offload == "none":
        # torch's own kernel, one for all parameters. DeepSpeed's kernels are compiled at first use, which needs a
        # compiler on every host; only offloading, where the optimizer runs on the CPU, needs them.
        adam |= {"torch_adam": True, "fused": True}
    return {
        "train_batch_size": micro_batch_size * accumulation_steps * world.size,
        "train_micro_batch_size_per_gpu": micro_batch_size,
        "gradient_accumulation_steps": accumulation_steps,
        "gradient_clipping": training.gradient_clipping,
        "zero_optimization": zero,
        "bf16": {"enabled": training.precision == "bf16"},
        "fp16": {"enabled": training.precision == "fp16"},
        "optimizer": {"type": "AdamW", "params": adam},
        "steps_per_print": 10**9,
    }


def start_engine(
    model: Seq2SeqModel, training: TrainingSettings, total_steps: int, accumulation_steps: int, world: World
) -> Engine:
    """Wraps a model in a DeepSpeed engine; a process group must exist."""
    if world.device == "cpu":
        # Without this DeepSpeed searches for accelerators that it would not use.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "error")
    import deepspeed
    from torch.optim.lr_scheduler import LambdaLR

    # DeepSpeed logs a lot at import and start; only its errors matter.
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # Only tensor-parallel inference uses this kernel, and compiling it takes half a minute on a fresh machine.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if training.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if world.device != "cpu":
        _use_no_kernels_planned_by_shape()
    if training.compile:
        # In place: the weights keep their names. Widths differ from batch to batch.
        model.get_encoder().compile(dynamic=True)
        model.get_decoder().compile(dynamic=True)
    config = engine_config(training, accumulation_steps, world)
    engine: Engine
    engine, _, _, _ = deepspeed.initialize(
        model=_on_device(model, training, config, world),
        config=config,
        lr_scheduler=lambda optimizer: LambdaLR(optimizer, learning_rate_factor(training, total_steps)),
        dist_init_required=False,
    )
    return engine


def _use_no_kernels_planned_by_shape() -> None:
    """Leaves cuDNN's attention out, which torch prefers on an H100 and which plans each new shape of a batch.

    Batches are as wide as their longest text: most shapes are new. Of a step of 0.25 s (T5-small, 16 examples, bf16),
    0.16 s were plans, and steps whose shapes had been seen took 0.09 s.
    """
    import torch

    torch.backends.cuda.enable_cudnn_sdp(False)


def _on_device(model: Seq2SeqModel, training: TrainingSettings, config: dict[str, Any], world: World) -> Seq2SeqModel:
    """The model on the worker's device in the training's precision; under ZeRO-3 this worker's part of it.

    It is converted, and under ZeRO-3 divided, before it is there: a whole model in fp32 may not fit a GPU that holds
    what is trained easily.
    """
    dtype = torch_dtype(training.precision)
    for array in model.parameters():
        array.data = array.data.to(dtype)
    if training.zero_stage < 3:
        return model.to(world.device)
    import deepspeed

    for constant in model.buffers():
        constant.data = constant.data.to(world.device)
    deepspeed.zero.Init(module=model, config_dict_or_path=config)
    return model


def end_engine(engine: Engine, training: TrainingSettings) -> None:
    """Ends an engine and frees what its optimizer keeps; the weights of its model stay."""
    optimizer, steps = engine.optimizer, engine.basic_optimizer
    engine.destroy()
    if training.zero_stage > 0:
        # Hooks that DeepSpeed leaves in torch's graph keep these objects, and with them all of their arrays.
        vars(optimizer).clear()
        steps.param_groups.clear()
        steps.state.clear()


def torch_dtype(precision: str) -> torch.dtype:
    """The torch type of a precision."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def full_model(engine: Engine, training: TrainingSettings, build: Callable[[], Seq2SeqModel]) -> Seq2SeqModel:
    """The engine's model with all its weights; every worker must call it.

    Under ZeRO-3, which divides them, it is a copy on the CPU.
    """
    if training.zero_stage < 3:
        return engine.module
    import deepspeed

    whole = build()
    for part, array in zip(engine.module.parameters(), whole.parameters(), strict=True):
        # One at a time: all of them may not fit a GPU together with the optimizer.
        with deepspeed.zero.GatheredParameters([part]):
            array.data = part.detach().to("cpu", copy=True)
    for constant, copied in zip(engine.module.buffers(), whole.buffers(), strict=True):
        copied.data = constant.detach().to("cpu", copy=True)
    return whole


def weights_on_first_worker(engine: Engine, training: TrainingSettings, world: World) -> dict[str, Tensor]:
    """The engine's complete weights by name on rank 0, an empty dictionary elsewhere; every worker must call it.

    Arrays that a model uses under several names are listed under the first.
    """
    if training.zero_stage < 3:
        return dict(engine.module.named_parameters()) if world.rank == 0 else {}
    import deepspeed

    weights = {}
    for name, part in engine.module.named_parameters():
        # One at a time: all of them may not fit a GPU together with the optimizer.
        with deepspeed.zero.GatheredParameters([part]):
            if world.rank == 0:
                weights[name] = part.detach().cpu().clone()
    return weights
