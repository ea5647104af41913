"""How often a failed trial is tried again, by the cause of the failure.

Within a run it is tried again up to a number of times before it counts as failed; after that, a later `simtune run` may
try it again without being asked.
"""

from __future__ import annotations

from dataclasses import dataclass

from simtune.trial.records import FailureCause


@dataclass(frozen=True)
class RetryPolicy:
    """What follows from a cause of failure.

    Attributes:
        more_tries: in the same run; for `infrastructure` `resources.max_failures` says how many.
        next_run_retries: whether the next `simtune run` tries again without being asked.
    """

    more_tries: int
    next_run_retries: bool


RETRY_POLICIES: dict[FailureCause, RetryPolicy] = {
    # The same inputs would fail in the same way.
    "input": RetryPolicy(0, next_run_retries=False),
    "diverged": RetryPolicy(0, next_run_retries=False),
    # Once more with half the examples in memory at a time.
    "out-of-memory": RetryPolicy(1, next_run_retries=True),
    "timeout": RetryPolicy(1, next_run_retries=True),
    "infrastructure": RetryPolicy(0, next_run_retries=True),
    # The loss of a host costs no try: however often hosts are lost, the trial continues on another.
    "preempted": RetryPolicy(0, next_run_retries=True),
    "unexpected": RetryPolicy(0, next_run_retries=True),
}
