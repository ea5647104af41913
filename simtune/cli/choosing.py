"""Commands that choose tasks, look at choices, and hand them on; none of them trains."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simtune.cli.numbers import cosine, count
from simtune.cli.numbers import seed as seed_number
from simtune.cli.options import (
    ExecutorChoice,
    ExecutorOption,
    JsonOption,
    Overrides,
    RunDirectory,
    StorageOption,
    SweepFile,
    display_for,
    listed,
    load,
    run_stages,
)
from simtune.cli.screen import Screen
from simtune.errors import UserError
from simtune.storage.files import as_path
from simtune.terminal import say, say_json
from simtune.wording import counted

app = typer.Typer()


@app.command()
def select(
    sweep: Annotated[
        Path | None, typer.Argument(metavar="SWEEP", help="Sweep file (YAML).", show_default=False)
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
        typer.Option(help="With --embeddings: seeds of strategies that draw (0 by default).", show_default=False),
    ] = None,
    target: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --embeddings: embeddings of the tasks to cover.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --embeddings: where tables and task lists go.")
    ] = None,
    overrides: Overrides = None,
    storage: StorageOption = None,
    executor: ExecutorOption = ExecutorChoice.local,
    as_json: JsonOption = False,
) -> None:
    """Choose the subsets of a sweep, or of any embeddings, and stop there."""
    if (sweep is None) == (embeddings is None):
        raise UserError("select: give either a sweep file or --embeddings FILE")
    if sweep is not None:
        given = {"--strategy": strategy, "--sizes": sizes, "--seeds": seeds, "--target": target, "--output": output}
        if alien := [option for option, value in given.items() if value is not None]:
            raise UserError(f"{', '.join(alien)}: only with --embeddings; a sweep file says it itself: use --set")
        subsets = run_stages(sweep, overrides, storage, executor, with_subsets=True)
    else:
        assert embeddings is not None  # noqa: S101 said above; mypy does not see it
        from simtune.executors.by_name import make_executor
        from simtune.selection.from_file import select_from_file, selection_of

        if overrides or storage:
            raise UserError("--set and --storage go with a sweep file; with --embeddings there is none")
        numbers = listed("10,100" if sizes is None else sizes, "--sizes")
        selection = selection_of(strategy or ["different"], numbers, listed("0" if seeds is None else seeds, "--seeds"))
        # All of this machine's cores work anyway; only a cluster has more of them.
        worker = make_executor("cluster" if executor == ExecutorChoice.cluster else "inline")
        with display_for(as_json) as display:
            try:
                subsets = select_from_file(embeddings, selection, target, output, display, worker.map_blocks)
            finally:
                worker.close()
    if as_json:
        say_json([subset.to_dict() for subset in subsets])
        return
    from simtune.selection.tables import compared_sizes, overlap_matrix, statistics_table

    Screen().print(statistics_table(subsets))
    for size in compared_sizes(subsets)[:1]:
        Screen().print(overlap_matrix(subsets, size))
    if output is not None:
        say(f"written: {output}", err=True)


@app.command()
def strategies() -> None:
    """List the strategies with their parameters, ranges and defaults."""
    from simtune.selection.tables import strategies_table

    Screen().print(strategies_table())


@app.command()
def graph(
    sweep: SweepFile,
    top_k: Annotated[
        int, typer.Option("--top-k", parser=count, metavar="N", help="Neighbours of each task that become edges.")
    ] = 10,
    near_duplicates: Annotated[
        float, typer.Option("--near-duplicates", parser=cosine, metavar="N", help="Cosine of pairs to list.")
    ] = 0.95,
    overrides: Overrides = None,
    storage: StorageOption = None,
    executor: ExecutorOption = ExecutorChoice.local,
    as_json: JsonOption = False,
) -> None:
    """Write the similarity graph: nodes, edges, neighbours, near-duplicates, GraphML, heat map and 2-D map."""
    settings = load(sweep, overrides, storage)
    from simtune.executors.by_name import make_executor
    from simtune.export.graph import write_graph

    with display_for(as_json) as display:
        worker = make_executor(executor.value)
        try:
            files = write_graph(settings, worker, display, top_k, near_duplicates)
        finally:
            worker.close()
    if as_json:
        say_json({"files": {name: str(path) for name, path in files.paths.items()}, "counts": files.counts})
    else:
        say(", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in files.counts.items()))
        for path in files.paths.values():
            say(str(path))


@app.command()
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
            help="An arm such as max-min or graph-cut(lambda=0.3); by default coverage of the target, without one "
            "facility-location."
        ),
    ] = None,
    explain: Annotated[
        str | None, typer.Option(metavar="TASK", help="Show this task's neighbours in place of the ranking.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Hub name or folder (all-MiniLM-L6-v2 by default).", show_default=False)
    ] = None,
    fields: Annotated[
        str | None, typer.Option(help="What is embedded of a task (definition by default).", show_default=False)
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the ranking: .csv or .parquet.")] = None,
    storage: StorageOption = None,
    executor: ExecutorOption = ExecutorChoice.inline,
    as_json: JsonOption = False,
) -> None:
    """Which tasks to collect next: what each candidate would add to a pool, by definitions alone, and why."""
    from simtune.executors.by_name import make_executor
    from simtune.recommend.command import recommend_places
    from simtune.recommend.tables import (
        check_output,
        render_explanation,
        render_recommendations,
        write_recommendations,
    )

    if output is not None:
        check_output(output)
    with display_for(as_json) as display:
        worker = make_executor(executor.value)
        try:
            found, explained = recommend_places(
                pool, candidates, target, size, worker, display, objective=objective, explained=explain,
                encoder=encoder, fields=fields, storage=storage or "runs",
            )  # fmt: skip
        finally:
            worker.close()
    if output is not None:
        write_recommendations(output, found)
    if as_json:
        say_json((explained or found).to_dict())
    else:
        for part in render_explanation(explained) if explained else render_recommendations(found):
            Screen().print(part)


@app.command()
def export(
    run: RunDirectory,
    arm: Annotated[str, typer.Option(help="Which arm's subset, as `simtune select` names it, or full.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to make.")],
    size: Annotated[
        int | None,
        typer.Option(parser=count, metavar="N", help="Number of tasks (not needed where the arm has one size)."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(parser=seed_number, metavar="N", help="Seed (the run's first by default).")
    ] = None,
    grid: Annotated[
        str | None, typer.Option(metavar="FIELD=VALUE", help="Grid point, where the run has several.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a subset's instances for another trainer: a Hugging Face data set, source/target lines and chat lines."""
    from simtune.export.instances import export_subset

    with display_for(as_json) as display:
        summary = export_subset(as_path(run), arm, size, seed, output, display, grid)
    if as_json:
        say_json(summary.to_dict())
    else:
        say(f"{output}: {counted(summary.num_instances, 'instance')} of {counted(summary.num_tasks, 'task')}")
