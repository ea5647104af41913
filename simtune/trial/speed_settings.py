"""The settings that decide how fast a trial trains and answers, as one fingerprint that its costs record."""

from __future__ import annotations

from simtune.config import Sweep
from simtune.config.evaluation import suites_of
from simtune.storage.files import fingerprint

# Settings of a training that change neither the seconds of a token nor those of an answer.
_NO_SPEED = {"epochs", "learning_rate", "schedule", "warmup_steps", "adam_beta2", "weight_decay", "dropout", "keep"}


def speed_fingerprint(sweep: Sweep) -> str:
    """16 hexadecimal digits: equal where a token is trained on, and an instance is answered, in equal time.

    Args:
        sweep: of one grid point, with its prompt format resolved.
    """
    resources, evaluation = sweep.resources, sweep.evaluation
    gpus = resources.gpus_per_worker
    shares_gpu = gpus != "auto" and 0 < gpus < 1
    answers = {
        fingerprint([suite.method, suite.max_new_tokens, suite.num_choices, suite.encoding.model_dump(mode="json")])
        for suite in suites_of(sweep)
    }
    return fingerprint(
        [
            sweep.model.model_dump(mode="json"),
            sweep.training.effective.model_dump(mode="json", exclude=_NO_SPEED),
            [resources.workers, resources.cpus_per_worker, gpus if shares_gpu else None],
            [evaluation.tokens_per_batch, evaluation.held_in],
            sorted(answers),
        ]
    )[:16]
