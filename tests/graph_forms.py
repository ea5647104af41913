"""Graphs in either form, whatever their size: with the matrix of all similarities, or with vectors alone."""

from __future__ import annotations

from typing import Any
from unittest import mock

from simtune.graph.similarity import DENSE_TASKS, SimilarityGraph


def build_graph(*arguments: Any, dense: bool | None = None, **options: Any) -> SimilarityGraph:
    """`SimilarityGraph.build` in a chosen form; None leaves it to the size."""
    limit = {None: DENSE_TASKS, True: 10**9, False: -1}[dense]
    with mock.patch("simtune.graph.similarity.DENSE_TASKS", limit):
        return SimilarityGraph.build(*arguments, **options)
