"""`simtune data`: look at a corpus, or download a public one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simtune.cli.number_options import count
from simtune.cli.options import JsonOption, display_for
from simtune.cli.screen import Screen
from simtune.errors import UserError
from simtune.terminal import say, say_json
from simtune.wording import counted, nearest

app = typer.Typer(help="Look at a corpus, or download a public one.", invoke_without_command=True)


@app.command("check")
def data_check(
    path: Annotated[str, typer.Argument(metavar="CORPUS", help="Corpus folder, or demo.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Read a corpus, and report what is in it and what is wrong with it."""
    from simtune.corpus.check import check_corpus
    from simtune.corpus.tables import render_check

    with display_for(as_json) as display, display.stage("read tasks") as on_progress:
        found = check_corpus(path, on_progress)
    if as_json:
        say_json(found.to_dict())
    else:
        for part in render_check(found):
            Screen().print(part)
    if found.num_errors:
        raise typer.Exit(1)


@app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="natural-instructions", show_default=False)],
    to: Annotated[Path | None, typer.Option(help="Folder to create (data/NAME by default).")] = None,
    url: Annotated[str | None, typer.Option(help="Another address of the archive, such as a mirror.")] = None,
    sha256: Annotated[str | None, typer.Option(help="Refuse content with any other SHA-256.")] = None,
    size: Annotated[
        int | None, typer.Option(parser=count, metavar="N", help="Refuse any other size, in bytes.")
    ] = None,
) -> None:
    """Download a public corpus, verify it and unpack it safely. An interrupted download resumes."""
    from simtune.corpus.archive.fetch import ARCHIVES, ArchiveSource, fetch_archive, read_fetch_record
    from simtune.storage.output_path import check_folder, check_writable

    if name not in ARCHIVES:
        suggestion = nearest(name, ARCHIVES) or ";"
        raise UserError(f"no public corpus {name!r}{suggestion} choose one of {', '.join(ARCHIVES)}")
    known = ARCHIVES[name]
    source = ArchiveSource(url or known.url, sha256 or known.sha256, size or known.size)
    destination = to or Path("data") / name
    check_folder(destination, "--to")
    check_writable(destination, "--to")
    with display_for(False) as display, display.stage(f"fetch {name}") as on_progress:
        folder = fetch_archive(source, destination, progress=lambda done, total: on_progress(done, total or 0))
    record = read_fetch_record(folder)
    say(f"{folder}: ready; use it with --set corpus.path={folder}")
    if record is not None:
        say(f"SHA-256 of the archive: {record.sha256} ({counted(record.size, 'byte')})")
