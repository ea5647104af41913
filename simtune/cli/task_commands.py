"""Commands about tasks: which strategies there are, what they choose, the similarity graph, which task to collect next.

None of them trains.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simtune.cli.number_options import cosine, count
from simtune.cli.options import (
    ExecutorChoice,
    ExecutorOption,
    JsonOption,
    Overrides,
    StorageOption,
    SweepFile,
    display_for,
    executor_for,
    parse_list,
    run_stages,
    sweep_settings,
)
from simtune.cli.screen import Screen
from simtune.errors import UserError
from simtune.terminal import say, say_json

if TYPE_CHECKING:
    from simtune.recommend.from_request import RecommendationRequest
    from simtune.selection.subsets import Subset

app = typer.Typer()
_PANEL = "Tasks"


@dataclass(frozen=True)
class _EmbeddingsOptions:
    """Options of `simtune select --embeddings`; None where one was not given."""

    strategy: list[str] | None
    sizes: str | None
    seeds: str | None
    target: Path | None
    output: Path | None

    def given(self) -> list[str]:
        """The names of the options that were given."""
        return [f"--{name}" for name, value in asdict(self).items() if value is not None]


@app.command(rich_help_panel=_PANEL)
def select(
    sweep: Annotated[
        Path | None,
        typer.Argument(metavar="SWEEP", help="Sweep file (YAML), or a built-in sweep.", show_default=False),
    ] = None,
    embeddings: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Choose from these embeddings (parquet: task, embedding), without a sweep."),
    ] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            help="With --embeddings: e.g. different, or 'graph-cut(lambda=0.3, per_category_cap=5)'. Repeatable."
        ),
    ] = None,
    sizes: Annotated[
        str | None, typer.Option(help="With --embeddings: numbers of tasks (10,100 by default).", show_default=False)
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(help="With --embeddings: seeds of random strategies (0 by default).", show_default=False),
    ] = None,
    target: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --embeddings: embeddings of the tasks to cover.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --embeddings: folder for the tables and task lists.")
    ] = None,
    overrides: Overrides = None,
    storage: StorageOption = None,
    executor: ExecutorOption = ExecutorChoice.local,
    as_json: JsonOption = False,
) -> None:
    """Choose the subsets of a sweep, or subsets of any embeddings. Trains nothing."""
    options = _EmbeddingsOptions(strategy, sizes, seeds, target, output)
    if sweep is not None and embeddings is None:
        if given := options.given():
            raise UserError(f"{', '.join(given)}: only with --embeddings; in a sweep, use --set")
        with sweep_settings(sweep, overrides, storage) as settings:
            stages = run_stages(settings, executor, with_subsets=True)
        subsets = stages.subsets[0]
    elif embeddings is not None and sweep is None:
        if overrides or storage:
            raise UserError("--set and --storage: only with a sweep file, not with --embeddings")
        subsets = _select_from_embeddings(embeddings, options, executor, as_json)
    else:
        raise UserError("select: give either a sweep file or --embeddings FILE")
    if as_json:
        say_json([subset.to_dict() for subset in subsets])
        return
    from simtune.selection.tables import compared_sizes, overlap_matrix, statistics_table

    Screen().print(statistics_table(subsets))
    for size in compared_sizes(subsets)[:1]:
        Screen().print(overlap_matrix(subsets, size))
    if output is not None:
        say(f"written: {output}", err=True)


def _select_from_embeddings(
    embeddings: Path, options: _EmbeddingsOptions, executor: ExecutorChoice, quiet: bool
) -> list[Subset]:
    from simtune.selection.from_file import select_from_file, selection_of

    selection = selection_of(
        options.strategy or ["different"],
        parse_list("10,100" if options.sizes is None else options.sizes, "--sizes"),
        parse_list("0" if options.seeds is None else options.seeds, "--seeds"),
    )
    # Choosing in this process uses all cores of this machine; only a cluster has more.
    executor_choice = ExecutorChoice.cluster if executor == ExecutorChoice.cluster else ExecutorChoice.inline
    with display_for(quiet) as display, executor_for(executor_choice) as worker:
        return select_from_file(embeddings, selection, options.target, options.output, display, worker.map_blocks)


@app.command(rich_help_panel=_PANEL)
def strategies(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the built-in ones as a Markdown table.")] = False,
) -> None:
    """List the strategies with their parameters, ranges and defaults."""
    from simtune.selection.tables import strategies_markdown, strategies_table

    if markdown:
        say(strategies_markdown())
        return
    Screen().print(strategies_table())


@app.command(rich_help_panel=_PANEL)
def graph(
    sweep: SweepFile,
    top_k: Annotated[
        int, typer.Option("--top-k", parser=count, metavar="N", help="Neighbours of each task that become edges.")
    ] = 10,
    near_duplicates: Annotated[
        float,
        typer.Option("--near-duplicates", parser=cosine, metavar="N", help="List pairs of at least this cosine."),
    ] = 0.95,
    overrides: Overrides = None,
    storage: StorageOption = None,
    executor: ExecutorOption = ExecutorChoice.local,
    as_json: JsonOption = False,
) -> None:
    """Write the similarity graph: nodes, edges, neighbours, near-duplicates, GraphML, heat map and 2-D map."""
    with sweep_settings(sweep, overrides, storage) as settings:
        from simtune.export.sweep_graph import write_sweep_graph

        with display_for(as_json) as display, executor_for(executor) as worker:
            files = write_sweep_graph(settings, worker, display, top_k, near_duplicates)
    if as_json:
        say_json({"files": {name: str(path) for name, path in files.paths.items()}, "counts": files.counts})
    else:
        say(", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in files.counts.items()))
        for path in files.paths.values():
            say(str(path))


@app.command(rich_help_panel=_PANEL)
def mixture(
    sweep: SweepFile,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="A .parquet or .json file; RUN/mixture.parquet by default."
        ),
    ] = None,
    overrides: Overrides = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write how many examples of each task an epoch of training has, and show it. Trains nothing."""
    with sweep_settings(sweep, overrides, storage) as settings:
        from simtune.export.mixture_file import write_mixture
        from simtune.export.mixture_table import mixture_summary

        with display_for(as_json) as display:
            table, path = write_mixture(settings, output, display)
    if as_json:
        say_json(table.to_pylist())
        return
    Screen().print(mixture_summary(table, settings))
    say(f"written: {path}", err=True)


@app.command(rich_help_panel=_PANEL)
def recommend(
    pool: Annotated[
        str,
        typer.Argument(
            metavar="POOL",
            help="Tasks you have: demo, a folder of task files, FOLDER:SPLIT/train or FOLDER:SPLIT/test, definitions "
            "(.jsonl) or embeddings (.parquet).",
            show_default=False,
        ),
    ],
    candidates: Annotated[str, typer.Option(help="Tasks you could write or collect; the same forms as POOL.")],
    size: Annotated[int, typer.Option(parser=count, metavar="N", help="How many to recommend.")] = 10,
    target: Annotated[str | None, typer.Option(help="Tasks to become good at; the same forms as POOL.")] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help="A strategy, e.g. max-min or graph-cut(lambda=0.3); the default is coverage of the target, or "
            "facility-location if there is no target."
        ),
    ] = None,
    explain: Annotated[
        str | None, typer.Option(metavar="TASK", help="Show the neighbours of this task instead of the ranking.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Hub name or folder (all-MiniLM-L6-v2 by default).", show_default=False)
    ] = None,
    fields: Annotated[
        str | None, typer.Option(help="Fields of a task to embed (definition by default).", show_default=False)
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the ranking: .csv or .parquet.")] = None,
    storage: StorageOption = None,
    executor: ExecutorOption = ExecutorChoice.inline,
    as_json: JsonOption = False,
) -> None:
    """Rank the tasks to collect next by what each would add to a pool, and say why. Needs only their definitions."""
    from simtune.recommend.from_request import RecommendationRequest

    request = RecommendationRequest(
        pool=pool,
        candidates=candidates,
        target=target,
        size=size,
        objective=objective,
        explained=explain,
        encoder=encoder,
        fields=fields,
        storage=storage or "runs",
    )
    _recommend(request, output, executor, as_json)


def _recommend(request: RecommendationRequest, output: Path | None, executor: ExecutorChoice, as_json: bool) -> None:
    from simtune.recommend.from_request import recommend_from_request
    from simtune.recommend.tables import (
        check_output,
        render_explanation,
        render_recommendations,
        write_recommendations,
    )

    if output is not None:
        check_output(output)
    with display_for(as_json) as display, executor_for(executor) as worker:
        found, explained = recommend_from_request(request, worker, display)
    if output is not None:
        write_recommendations(output, found)
    if as_json:
        say_json((explained or found).to_dict())
    else:
        for part in render_explanation(explained) if explained else render_recommendations(found):
            Screen().print(part)
