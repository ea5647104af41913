"""A small corpus of our own, so that the quickstart runs offline and in minutes.

It has the shape of Super-NaturalInstructions (tasks in categories, held-out categories, a few tasks too small for
the pool) at a size at which a tiny model trained from scratch for seconds learns to answer held-out tasks. The tasks
are listed in `train_topics.yaml` and `test_topics.yaml`; every input is drawn from templates and word pools with a
fixed seed per task.
"""

from __future__ import annotations

from typing import Any

from simtune.corpus.demo.spec import raw_task, read_topics

_SPLITS = ("train", "test")


def demo_tasks() -> dict[str, dict[str, Any]]:
    """All tasks, as the contents of Super-NaturalInstructions files by file name without `.json`.

    Returns:
        Train tasks, then test tasks, in catalogue order. The same bytes on every machine and Python version.
    """
    return {
        spec.name: raw_task(topic, spec) for split in _SPLITS for topic in read_topics(split) for spec in topic.tasks
    }


def demo_splits() -> dict[str, list[str]]:
    """The names of the tasks to train on (`train`) and of the held-out tasks (`test`)."""
    return {split: [spec.name for topic in read_topics(split) for spec in topic.tasks] for split in _SPLITS}
