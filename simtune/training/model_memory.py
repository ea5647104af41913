"""Memory that training needs on each worker's device: the formulas of the ZeRO paper, and what DeepSpeed adds.

Rajbhandari et al. 2020 (ZeRO: Memory Optimizations Toward Training Trillion Parameter Models, section 3 and figure 1).
Adam in mixed precision keeps 16 bytes a parameter: 2 for the weight, 2 for its gradient, and 12 for the optimizer (an
fp32 copy of the weight and two moments). Stage 1 divides the optimizer among the workers, stage 2 the gradients too,
stage 3 all of it. In fp32 the weight and its gradient take 4 bytes each; without ZeRO there is no further copy then.

While the optimizer steps, DeepSpeed 0.19 also copies the gradients: in half precision to fp32, and from stage 1 on into
one array first (`FP16_UnfusedOptimizer.step`, `DeepSpeedZeroOptimizer.step`, and stage 3's
`_prepare_fp32_grad_for_sub_group`, a billion elements at a time). `benchmarks/gpu_memory.py` measures it.

Needs neither torch nor a model.
"""

from __future__ import annotations

from dataclasses import dataclass

from simtune.config.settings import TrainingSettings

_COPY, _MOMENTS = 4, 8
# What DeepSpeed reduces at once: a buffer of that many elements, whatever the size of the model.
_BUCKET_ELEMENTS = 500_000_000
# How many elements stage 3 steps at once.
_SUB_GROUP_ELEMENTS = 1_000_000_000


@dataclass(frozen=True)
class ModelStates:
    """Bytes of one worker that depend on the model alone.

    Attributes:
        parameters: on the device, during the whole training.
        gradients: on the device, during the whole training.
        optimizer: on the device, during the whole training.
        stepping: on the device, while the optimizer steps: copies of the gradients.
        host: in the host's memory (`training.offload`).
    """

    parameters: int
    gradients: int
    optimizer: int
    stepping: int
    host: int

    @property
    def device(self) -> int:
        """On the device during the whole training, all together."""
        return self.parameters + self.gradients + self.optimizer

    @property
    def least(self) -> int:
        """What the device must hold, whatever the batches."""
        return self.device + self.stepping


def model_states(training: TrainingSettings, num_parameters: int, workers: int) -> ModelStates:
    """The states of a model on each of some workers, by `zero_stage` and `offload`."""
    stage, weight = training.zero_stage, weight_bytes(training)

    def share(each: int, divided_from: int) -> int:
        return -(-num_parameters * each // (workers if stage >= divided_from else 1))

    parameters, gradients, optimizer = share(weight, 3), share(weight, 2), share(optimizer_bytes(training), 1)
    host = 0
    if training.offload != "none":
        # With the optimizer, DeepSpeed keeps the gradients of its part in the host's memory.
        host += optimizer + (gradients if stage >= 2 else 0)
        optimizer, gradients = 0, 0 if stage >= 2 else gradients
    if training.offload == "parameters":
        host, parameters = host + parameters, 0
    return ModelStates(parameters, gradients, optimizer, _stepping_bytes(training, num_parameters, workers), host)


def _stepping_bytes(training: TrainingSettings, num_parameters: int, workers: int) -> int:
    """Copies of the gradients while the optimizer steps on the device."""
    if training.offload != "none":
        return 0
    to_fp32 = 0 if training.precision == "fp32" else _COPY
    if training.zero_stage == 0:
        return num_parameters * to_fp32
    stepped = -(-num_parameters // workers)
    if training.zero_stage == 3:
        stepped = min(stepped, _SUB_GROUP_ELEMENTS)
    return stepped * (weight_bytes(training) + to_fp32)


def bucket_bytes(training: TrainingSettings) -> int:
    """DeepSpeed's buffer in which gradients are reduced."""
    return 0 if training.zero_stage == 0 else _BUCKET_ELEMENTS * weight_bytes(training)


def optimizer_bytes(training: TrainingSettings) -> int:
    """Bytes of one parameter that Adam keeps: an fp32 copy, unless the weight itself is one, and two moments."""
    return _MOMENTS + (0 if training.precision == "fp32" and training.zero_stage == 0 else _COPY)


def weight_bytes(training: TrainingSettings) -> int:
    """Bytes of one parameter in training, and as it is saved."""
    return 4 if training.precision == "fp32" else 2


@dataclass(frozen=True)
class BatchShape:
    """The largest batch that a worker computes at once.

    Attributes:
        sequences: examples.
        source_tokens: of each.
        target_tokens: of each.
    """

    sequences: int
    source_tokens: int
    target_tokens: int


def largest_batch(training: TrainingSettings, accumulation_steps: int, workers: int) -> BatchShape:
    """The micro-batch of a worker if all its examples are as long as they may be."""
    longest = training.max_source_tokens
    if training.tokens_per_batch is not None:
        sequences = -(-training.tokens_per_batch // (accumulation_steps * workers * longest))
    else:
        sequences = max(1, training.batch_size // (accumulation_steps * workers))
    return BatchShape(sequences, longest, training.max_target_tokens)
