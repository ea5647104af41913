"""Grid points that are ready to run: each with its tasks, its tokenizer and its model.

What the settings name is loaded before anything is written, so that a wrong name is refused early. Points are prepared
after the leak guard: a tokenizer of the pool is trained on the tasks that the guard leaves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from simtune.config import GridPoint, Sweep
from simtune.config.evaluation import suite_field, suites_of
from simtune.corpus.pool import TaskSets
from simtune.corpus.task import Task
from simtune.errors import ConfigError
from simtune.evaluation.xlingual import Gpt2Tokenize
from simtune.grid.grid_points import PointTasks
from simtune.grid.rouge_tokenizers import RougeTokenizers
from simtune.hub import commit_of
from simtune.progress import Display
from simtune.prompting.tokenizer import TextTokenizer
from simtune.storage.files import fingerprint
from simtune.training.families.registry import family
from simtune.training.model import ResolvedModel


@dataclass(frozen=True)
class PreparedPoint:
    """A grid point ready to run.

    Attributes:
        rouge_tokenizers: of the suites that name one, by the suite's name.
    """

    point_tasks: PointTasks
    tokenizer: TextTokenizer
    model: ResolvedModel
    rouge_tokenizers: Mapping[str, Gpt2Tokenize]

    @property
    def point(self) -> GridPoint:
        return self.point_tasks.point

    @property
    def sweep(self) -> Sweep:
        return self.point_tasks.sweep

    @property
    def tasks(self) -> TaskSets:
        return self.point_tasks.tasks


class LoadedModels:
    """Tokenizers and models of a sweep, each distinct one loaded or trained once.

    Attributes:
        rouge_tokenizers: those of its suites.
    """

    def __init__(self) -> None:
        self.rouge_tokenizers = RougeTokenizers()
        self._tokenizers: dict[str, TextTokenizer] = {}
        self._models: dict[str, ResolvedModel] = {}

    def load(self, point: PointTasks, pool: Sequence[Task]) -> tuple[TextTokenizer, ResolvedModel]:
        """The tokenizer and the model that the settings of a grid point name.

        Args:
            point: its settings, and the fingerprints of its tasks.
            pool: what a tokenizer of the pool is trained on.

        Raises:
            ModelError: one of them cannot be loaded or does not fit.
        """
        from simtune.prompting.tokenizer import load_tokenizer
        from simtune.training.model import resolve_model

        model = point.sweep.model
        texts = [point.task_fingerprints[task.name] for task in pool] if model.tokenizer == "pool" else None
        key = fingerprint([model.name, model.revision, model.tokenizer, model.vocab_size, texts])
        if key not in self._tokenizers:
            self._tokenizers[key] = load_tokenizer(model, pool)
        tokenizer = self._tokenizers[key]
        model_key = fingerprint([model.model_dump(mode="json"), key])
        if model_key not in self._models:
            self._models[model_key] = resolve_model(model, tokenizer)
        return tokenizer, self._models[model_key]


def load_models(points: Iterable[PointTasks], display: Display) -> LoadedModels:
    """Loads every published tokenizer and finds every model, before anything is written.

    Raises:
        ModelError: one of them cannot be loaded or does not fit.
    """
    points = list(points)
    models = LoadedModels()
    with display.stage("check model"):
        found = []
        for point in points:
            models.rouge_tokenizers.of_suites(point.sweep)
            # Which tasks a tokenizer of the pool is trained on is not known yet: one of no tasks checks the model.
            _, model = models.load(point, ())
            _refuse_to_rank(point.sweep, model)
            found.append((point.sweep.model.name, model.unused))
    for name, unused in dict.fromkeys(found):
        if unused:
            display.warn(f"{name}: its own {unused} has no effect, answers are decoded greedily")
    return models


def _refuse_to_rank(sweep: Sweep, model: ResolvedModel) -> None:
    """Refuses suites that rank where the trained model could not; generating works with every model."""
    ranked = [suite.name for suite in suites_of(sweep) if suite.method == "rank"]
    if not ranked:
        return
    of = family(model.family)
    # New weights are of the family's first type.
    config = json.loads(Path(model.source, "config.json").read_bytes()) if model.source else {}
    error = of.ranking_error(config.get("model_type", of.model_types[0]), sweep.training.precision)
    if error:
        raise ConfigError(f"rank is {error}, or generate", field=f"{suite_field(sweep, ranked[0])}.method")


def prepare_points(points: Iterable[PointTasks], models: LoadedModels | None = None) -> list[PreparedPoint]:
    """Adds its tokenizer and its model to every grid point; trains tokenizers of the pool.

    Args:
        points: with the tasks that are used, in the order of the result.
        models: what is loaded already; None loads all.

    Raises:
        ModelError: a tokenizer or a model cannot be loaded or does not fit.
    """
    models = models or LoadedModels()
    return [
        PreparedPoint(point, *models.load(point, point.tasks.pool), models.rouge_tokenizers.of_suites(point.sweep))
        for point in points
    ]


def hub_commits(prepared_points: Iterable[PreparedPoint]) -> dict[str, str]:
    """The commit of every model, tokenizer and encoder that came from the hub, by name."""
    commits = {}
    for prepared in prepared_points:
        model, embedding = prepared.sweep.model, prepared.sweep.embedding
        tokenizer = (model.tokenizer or model.name, None if model.tokenizer else model.revision)
        for name, revision in ((model.name, model.revision), tokenizer, (embedding.encoder, embedding.revision)):
            if (commit := commit_of(name, revision)) is not None:
                commits[f"{name}@{revision}" if revision else name] = commit
    return dict(sorted(commits.items()))
