"""What commands share that talk to a cluster: the option that names it, and a connection that reports breaks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simtune.terminal import say

if TYPE_CHECKING:
    from simtune.cluster.connection import Connection

DEFAULT_CLUSTER_FILE = Path("cluster.yaml")
ClusterFileOption = Annotated[
    Path, typer.Option("--cluster", metavar="FILE", help="File that describes the cluster, as `ray up` takes it.")
]
OnClusterOption = Annotated[
    Path | None,
    typer.Option("--cluster", metavar="FILE", help="The run is on this cluster, not on this machine."),
]
SubmissionName = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="Id that `simtune submit` printed, name of the run, or run directory as the cluster sees it.",
        show_default=False,
    ),
]


@contextmanager
def connected(cluster: Path) -> Iterator[Connection]:
    """A connection to the cluster of a file; what happens to it is told on standard error."""
    from simtune.cluster.cluster_file import read_cluster_file
    from simtune.cluster.connection import Connection

    with Connection(read_cluster_file(cluster), lambda text: say(text, err=True)) as connection:
        yield connection
