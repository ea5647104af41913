"""Mixtures: how many examples of each training task an epoch has, and which of its instances they are.

Both are functions of the tasks' sizes and names, the rule and the seed, the same on every machine. With the rule
`equal` an epoch has every drawn instance once.

Rules, for task m with e_m drawn instances and t_m templates; an epoch's examples are shared out in proportion to r_m:

* `oversample: N`: N examples of each task, as Natural Instructions v1 (6,500).
* `proportional`: r_m = min(e_m, cap, max_rate) ** (1 / temperature) (Raffel et al. 2020; FLAN: cap 30,000, max_rate
  3,000). `cap` also limits which instances are used at all, `max_rate` does not.
* `per_template_cap: N`: r_m = t_m e_m where e_m <= N, else N: each template of a larger task counts N / t_m (Sanh et
  al. 2022, T0: 500,000).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from simtune.config.mixture import MixtureSettings


@dataclass(frozen=True, slots=True)
class TaskShare:
    """One task's part of an epoch.

    Attributes:
        num_instances: drawn instances.
        num_used: those of them that are trained on in any epoch.
        num_examples: examples of an epoch.
    """

    num_instances: int
    num_used: int
    num_examples: int

    @property
    def once_each(self) -> bool:
        """Whether an epoch has every drawn instance once."""
        return self.num_instances == self.num_used == self.num_examples


def task_shares(
    sizes: Mapping[str, int], mixture: MixtureSettings, num_templates: Mapping[str, int] | None = None
) -> dict[str, TaskShare]:
    """The share of each task in an epoch.

    Args:
        sizes: drawn instances of each task of a training, at least one.
        mixture: the rule.
        num_templates: templates of each task's prompt format; those that are not named have one.
    """
    templates = {name: (num_templates or {}).get(name, 1) for name in sizes}
    used = dict(sizes)
    if mixture.proportional is not None:
        cap = mixture.proportional.cap
        used = {name: size if cap is None else min(size, cap) for name, size in sizes.items()}
    counts = _counts(used, templates, mixture)
    return {name: TaskShare(sizes[name], used[name], counts[name]) for name in sizes}


def _counts(used: Mapping[str, int], templates: Mapping[str, int], mixture: MixtureSettings) -> dict[str, int]:
    """Examples of each task an epoch."""
    if mixture.oversample is not None:
        return dict.fromkeys(used, mixture.oversample)
    rates: dict[str, float]
    if mixture.proportional is not None:
        most, temperature = mixture.proportional.max_rate, mixture.proportional.temperature
        limited = {name: min(size, most or size) for name, size in used.items()}
        # Below 1, powers of large sizes would overflow; only the ratios of rates matter.
        largest = max(limited.values()) if temperature < 1 else 1
        rates = {name: (size / largest) ** (1 / temperature) for name, size in limited.items()}
        total = sum(used.values())
    elif mixture.per_template_cap is not None:
        cap = mixture.per_template_cap
        rates = {name: templates[name] * size if size <= cap else cap for name, size in used.items()}
        total = round(sum(rates.values()))
    elif mixture.examples_per_epoch is None:
        return dict(used)
    else:
        rates, total = dict.fromkeys(used, 1), 0
    return _shared_out(mixture.examples_per_epoch or total, rates)


def _shared_out(total: int, rates: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers in proportion to rates that add up to `total`: largest remainders first, equal ones by name."""
    whole = sum(rates.values())
    exact = {name: total * rate / whole for name, rate in rates.items()}
    counts = {name: int(value) for name, value in exact.items()}
    left = total - sum(counts.values())
    for name in sorted(exact, key=lambda name: (counts[name] - exact[name], name))[:left]:
        counts[name] += 1
    return counts


def example_positions(name: str, share: TaskShare, epoch: int, seed: int) -> np.ndarray:
    """Which instances of a task are the examples of an epoch: positions among its drawn ones, int64 [num_examples].

    A task's instances are dealt out in passes, each in an order of its own, and each epoch continues where the one
    before has stopped: no instance comes again before all others have come.

    Args:
        name: the task's name.
        share: its part of an epoch.
        epoch: counted from 0.
        seed: of the training. Which instances are used at all depends on the task's name alone, so that arms differ in
            tasks only.
    """
    task = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
    used = np.arange(share.num_instances)
    if share.num_used < share.num_instances:
        used = np.sort(_generator(task).permutation(share.num_instances)[: share.num_used])
    first = epoch * share.num_examples
    last = first + share.num_examples
    passes = range(first // share.num_used, -(-last // share.num_used))
    dealt = [_generator(task, seed, number).permutation(used) for number in passes]
    start = first - passes.start * share.num_used
    return np.concatenate([*dealt, used[:0]])[start : start + share.num_examples]


def _generator(*entropy: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
