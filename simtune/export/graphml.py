"""A graph of tasks as GraphML, and names as XML can hold them.

XML cannot hold every name: control characters become U+FFFD, and names that are equal after that get a number.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from simtune.graph.neighbours import SimilarPairs
from simtune.report.results_view import clean

if TYPE_CHECKING:
    import pyarrow as pa

_NOT_XML = re.compile("[^ -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def graphml_bytes(nodes: pa.Table, edges: SimilarPairs) -> bytes:
    """The graph as a file.

    Args:
        nodes: their columns become attributes; missing values are left out, lists are joined.
        edges: rows of `nodes`, with the similarity as weight.

    Returns:
        The same bytes for the same input.
    """
    import networkx as nx

    rows = nodes.to_pylist()
    ids = xml_names(row["task"] for row in rows)
    id_of = {row["task"]: node for row, node in zip(rows, ids, strict=True)}
    columns = dict(zip(nodes.column_names, xml_names(nodes.column_names), strict=True))
    graph = nx.Graph()
    for row, node in zip(rows, ids, strict=True):
        del row["task"]
        row["sources"] = "; ".join(row["sources"] or ())
        if row["nearest"] is not None:
            row["nearest"] = id_of[row["nearest"]]
        attributes = {columns[key]: value for key, value in row.items() if value is not None}
        for key in ("role", "category", "sources"):
            attributes[key] = _xml_name(attributes[key])
        graph.add_node(node, label=node, **attributes)
    for first, second, similarity in zip(
        edges.first_P.tolist(), edges.second_P.tolist(), edges.similarity_P.tolist(), strict=True
    ):
        graph.add_edge(ids[first], ids[second], weight=similarity)
    sink = io.BytesIO()
    # Not `write_graphml`, whose bytes depend on whether lxml is installed.
    nx.write_graphml_xml(graph, sink)
    return sink.getvalue()


def xml_names(names: Iterable[str]) -> list[str]:
    """Names as XML can hold them on one line, different where the names are different.

    Of two names that collide the second gets " (2)", and so on.
    """
    used: dict[str, int] = {}
    safe_names = []
    for name in names:
        base = safe = _xml_name(name)
        while safe in used:
            used[base] += 1
            safe = f"{base} ({used[base]})"
        used[safe] = 1
        safe_names.append(safe)
    return safe_names


def _xml_name(name: str) -> str:
    return _NOT_XML.sub("\ufffd", clean(name))
