from __future__ import annotations

from fake_encoder import task

from simtune.config import EmbeddingSettings
from simtune.embedding.task_text import task_text


def test_the_text_of_a_task_is_its_fields_in_the_order_asked_for():
    assert task_text(task("t", " Do it.\n"), EmbeddingSettings()) == (
        "Title Generation\nDo it.\nInput: in1\nOutput: out1\nInput: in2\nOutput: out2\nInput: bad\nOutput: worse"
    )
    fields = EmbeddingSettings(fields=("negative", "category"), num_demonstrations=5)
    assert task_text(task("t"), fields) == "Input: bad\nOutput: worse\nTitle Generation"
    assert task_text(task("t"), EmbeddingSettings(fields=("positive",), num_demonstrations=0)) == ""
