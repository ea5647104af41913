"""What training a sweep's model needs of each worker's memory, before anything runs; formulas in `model_memory`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from simtune.config import Sweep
from simtune.config.settings import TrainingSettings, accumulation_steps
from simtune.errors import ConfigError
from simtune.outside_files import GIB
from simtune.training.model_memory import ModelStates, bucket_bytes, largest_batch, model_states, weight_bytes
from simtune.training.parameter_count import expected_parameters, expected_sizes
from simtune.wording import counted

# How many workers are tried for a remedy.
_WORKERS = tuple(2**power for power in range(11))


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that one worker needs: of its GPU, or of its host's memory where there are no GPUs.

    Attributes:
        model: its name.
        num_parameters: of the model.
        workers: of a trial.
        gpu_share: the part of a GPU that a worker has, where there are GPUs.
        training: its settings.
        states: what the model itself needs, whatever the batches.
        by_stage: parameters, gradients and optimizer for `zero_stage` 0 to 3 without `offload`, on the GPU.
        activations: what the largest micro-batch keeps for its backward pass, if all its examples are as long as they
            may be; None if the model's family does not say.
        buffers: of DeepSpeed.
        answering: the whole model in the training's precision, which every worker has for its test instances.
    """

    model: str
    num_parameters: int
    workers: int
    gpu_share: float
    training: TrainingSettings
    states: ModelStates
    by_stage: tuple[int, ...]
    activations: int | None
    buffers: int
    answering: int

    @property
    def most(self) -> int:
        """With the longest batch, on the GPU: when it is computed, or when the optimizer steps."""
        return self.states.device + max((self.activations or 0) + self.buffers, self.states.stepping)

    def to_dict(self) -> dict[str, object]:
        return {
            "model": self.model,
            "num_parameters": self.num_parameters,
            "workers": self.workers,
            "zero_stage": self.training.zero_stage,
            "offload": self.training.offload,
            "parameters": self.states.parameters,
            "gradients": self.states.gradients,
            "optimizer": self.states.optimizer,
            "states": self.states.device,
            "stepping": self.states.stepping,
            "states_by_stage": list(self.by_stage),
            "host": self.states.host,
            "activations": self.activations,
            "buffers": self.buffers,
            "answering": self.answering,
        }

    def __str__(self) -> str:
        states, training = self.states, self.training
        parts = f"parameters {_gib(states.parameters)}, gradients {_gib(states.gradients)}, optimizer "
        text = f"Memory per worker: {_gib(states.device)} ({parts}{_gib(states.optimizer)})"
        by_stage = ", ".join(f"{stage}: {_gib(size)}" for stage, size in enumerate(self.by_stage))
        text += f" with zero_stage {training.zero_stage}"
        text += f" over {counted(self.workers, 'worker')}" if self.workers > 1 else ""
        text += f", and {_gib(states.host)} of the host's with offload: {training.offload}" if states.host else ""
        text += f" (by stage {by_stage})"
        text += f"; while the optimizer steps, {_gib(states.stepping)} more" if states.stepping else ""
        if self.activations is not None:
            text += f"; the longest batch keeps up to {_gib(self.activations)} more, DeepSpeed {_gib(self.buffers)}"
        return text

    def refuse_small_gpus(self, gpu_bytes: int) -> None:
        """Refuses GPUs that cannot hold the model's states, whatever the batches.

        Raises:
            ConfigError: a worker needs more.
        """
        if reason := self.too_large(gpu_bytes):
            raise ConfigError(reason, field="training.zero_stage")

    def too_large(self, gpu_bytes: int) -> str:
        """Why a GPU cannot hold the model's states, and what fits; empty if it can."""
        has = int(gpu_bytes * self.gpu_share)
        if max(self.states.least, self.answering) <= has:
            return ""
        shown = _gib(has) + (f" (resources.gpus_per_worker: {self.gpu_share:g})" if self.gpu_share < 1 else "")
        model = f"{self.model} has {self.num_parameters / 1e9:,.2f} billion parameters. "
        if self.answering > has:
            return (
                f"{model}Every worker answers test instances with all of them, {_gib(self.answering)} in "
                f"{self.training.precision}, and its GPU has {shown}. Use larger GPUs or a smaller model"
            )
        offload = f" and offload: {self.training.offload}" if self.states.host else ""
        fits = self._remedies(has)
        return (
            f"{model}With zero_stage: {self.training.zero_stage}{offload} and {counted(self.workers, 'worker')}, "
            f"each needs {_gib(self.states.least)} for parameters, gradients and optimizer with its step, and its GPU "
            f"has {shown}. " + (f"What fits: {', or '.join(fits)}" if fits else "Use larger GPUs or a smaller model")
        )

    def warning(self, gpu_bytes: int) -> str:
        """The warning that the longest batch may not fit; empty if it does."""
        if self.most <= gpu_bytes * self.gpu_share:
            return ""
        remedy = "set training.gradient_checkpointing: true, or " if not self.training.gradient_checkpointing else ""
        return (
            f"{self.model}: if all examples of a batch are as long as they may be, it needs up to {_gib(self.most)} "
            f"of a GPU that has {_gib(int(gpu_bytes * self.gpu_share))}. If trials run out of memory, {remedy}lower "
            f"training.micro_batch_{'tokens' if self.training.tokens_per_batch else 'size'}"
        )

    def _remedies(self, gpu_bytes: int) -> list[str]:
        """Settings with which states and buffer fit: the fewest workers at the lowest stage, and offloading."""
        found = []
        stages = range(max(1, self.training.zero_stage), 4)
        for workers, stage in ((number, stage) for number in _WORKERS if number >= self.workers for stage in stages):
            if self._fits(gpu_bytes, workers, stage, self.training.offload):
                found.append(f"zero_stage: {stage} with resources.workers: {workers}")
                break
        for offload, stage in (("optimizer", 2), ("optimizer", 3), ("parameters", 3)):
            if self.training.offload != offload and self._fits(gpu_bytes, self.workers, stage, offload):
                found.append(f"offload: {offload} with zero_stage: {stage}")
                break
        return found

    def _fits(self, gpu_bytes: int, workers: int, stage: int, offload: str) -> bool:
        training = self.training.model_copy(update={"zero_stage": stage, "offload": offload})
        states = model_states(training, self.num_parameters, workers)
        return states.device + max(states.stepping, bucket_bytes(training)) <= gpu_bytes


def memory_need(sweep: Sweep, tokenizer_size: int | None) -> MemoryNeed | None:
    """What a worker of a grid point needs; None if the size of its model is not known without the hub.

    Args:
        sweep: settings of the grid point.
        tokenizer_size: pieces of the tokenizer; None where it is not known.
    """
    training, workers = sweep.training, sweep.resources.workers
    num_parameters = expected_parameters(sweep.model, tokenizer_size)
    if num_parameters is None:
        return None
    activations, sizes = None, expected_sizes(sweep.model)
    if sizes is not None:
        family, config = sizes
        batch = largest_batch(training, accumulation_steps(sweep), workers)
        pieces = None if sweep.model.init == "pretrained" else tokenizer_size
        recomputes = training.gradient_checkpointing
        activations = family.activation_bytes(config, pieces, batch, weight_bytes(training), recomputes)
    stages = (training.model_copy(update={"zero_stage": stage, "offload": "none"}) for stage in range(4))
    return MemoryNeed(
        model=sweep.model.name,
        num_parameters=num_parameters,
        workers=workers,
        gpu_share=1.0 if sweep.resources.gpus_per_worker == "auto" else sweep.resources.gpus_per_worker,
        training=training,
        states=model_states(training, num_parameters, workers),
        by_stage=tuple(model_states(stage, num_parameters, workers).device for stage in stages),
        activations=activations,
        buffers=bucket_bytes(training),
        answering=num_parameters * weight_bytes(training),
    )


def largest_need(needs: Iterable[MemoryNeed | None]) -> MemoryNeed | None:
    """The need of the grid point that needs most; None if none is known."""
    return max((need for need in needs if need is not None), key=lambda need: need.states.least, default=None)


def _gib(size: int) -> str:
    if size >= GIB or size == 0:
        return f"{size / GIB:,.1f} GiB"
    return f"{size / 2**20:,.1f} MiB"
