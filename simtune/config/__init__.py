"""The sweep file: what a user may set, how it is read, and how a grid becomes single settings.

`settings` says which fields there are; `loading` turns files and overrides into a `Sweep`, with errors that name
file, line and field; `origins` adds file and line to errors of later checks; `grid` expands `grid:` into one `Sweep` a
point.
"""

from simtune.config.encoding import EncodingSettings
from simtune.config.evaluation import EvaluationSettings
from simtune.config.grid import GridPoint, expand_grid
from simtune.config.loading import dump_sweep, load_sweep
from simtune.config.selection import ArmSettings, OptionSettings, SelectionSettings
from simtune.config.settings import (
    CorpusSettings,
    EmbeddingSettings,
    LeakageSettings,
    ModelSettings,
    ResourceSettings,
    Sweep,
    TrainingSettings,
)

__all__ = [
    "ArmSettings",
    "CorpusSettings",
    "EmbeddingSettings",
    "EncodingSettings",
    "EvaluationSettings",
    "GridPoint",
    "LeakageSettings",
    "ModelSettings",
    "OptionSettings",
    "ResourceSettings",
    "SelectionSettings",
    "Sweep",
    "TrainingSettings",
    "dump_sweep",
    "expand_grid",
    "load_sweep",
]
