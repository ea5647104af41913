"""The matrix of categories: the similarity of every two, with similar categories side by side.

Legend: C categories.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from simtune.report import plot_style
from simtune.report.plot_style import GRID, MUTED, Plot
from simtune.report.results_view import one_line
from simtune.wording import counted

MAX_CATEGORIES = 60
_BLUES = ("#f6f8fa", "#dae7f1", "#b3d1e5", "#82b4d5", "#4a93c3", "#2171a5", "#0a507f", "#063150")
_REDS = ("#6b2a00", "#a84600", "#d97531", "#f0b48c")
_WIDTH_PT, _EDGE_PT, _PAD_PT = 7.4 * 72, 8.0, 4.0
_MAX_CELL_PT, _MAX_LABEL_PT = 24.0, 7.5
# Height of a line of text as a share of its cell, so that descenders do not touch the next line.
_LABEL_SHARE = 0.86
_BAR_PT, _BAR_DROP_PT, _BELOW_PT = (220.0, 8.0), 24.0, 66.0


def figure_category_matrix(categories: Sequence[str], similarity_CC: np.ndarray, counts: Sequence[int]) -> Plot:
    """Draws the similarity of every two categories as a matrix, ordered by hierarchical clustering.

    Args:
        categories: their names.
        similarity_CC: cosine similarities [C, C], symmetric; NaN and the diagonal are left blank.
        counts: tasks of each category; the `MAX_CATEGORIES` with the most are drawn.

    Returns:
        The same bytes for the same input.
    """
    by_size = sorted(range(len(categories)), key=lambda row: (-counts[row], categories[row], row))
    largest = np.array(sorted(by_size[:MAX_CATEGORIES]), dtype=np.int64)
    largest_CC = np.asarray(similarity_CC, dtype=np.float64)[np.ix_(largest, largest)]
    order = np.array(cluster_order(largest_CC), dtype=np.int64)
    rows = largest[order].tolist()
    drawn_CC = np.ma.masked_invalid(largest_CC[np.ix_(order, order)])
    drawn_CC[np.eye(len(rows), dtype=bool)] = np.ma.masked
    names = [one_line(categories[row], 40) for row in rows]
    notes = ["After a name: its number of tasks. The diagonal is 1 everywhere and left blank."]
    if len(categories) > len(rows):
        notes.append(f"Drawn: the {len(rows)} largest of {counted(len(categories), 'category', 'categories')}.")
    with plot_style.report_style():
        figure = _draw(names, [counts[row] for row in rows], drawn_CC, " ".join(notes))
    subject = "Cosine similarity of every two task categories, similar ones side by side."
    alt = (
        f"Matrix. {subject} {counted(len(rows), 'category', 'categories')}, from the top: {', '.join(names)}."
        if rows
        else f"{subject} None."
    )
    if drawn_CC.count():
        alt += f" From {float(drawn_CC.min()):.2f} to {float(drawn_CC.max()):.2f}."
    return Plot(figure, f"{subject} {' '.join(notes)}", alt)


def cluster_order(similarity_CC: np.ndarray) -> list[int]:
    """Orders categories as the leaves of a clustering tree, neighbours as similar as the tree allows.

    The tree merges by the mean distance of pairs (average linkage); the distance of two categories is 1 minus their
    similarity.
    """
    if len(similarity_CC) < 3:
        return list(range(len(similarity_CC)))
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    distance_CC = 1.0 - np.clip(np.nan_to_num((similarity_CC + similarity_CC.T) / 2), -1.0, 1.0)
    np.fill_diagonal(distance_CC, 0.0)
    tree = linkage(squareform(distance_CC, checks=False), method="average", optimal_ordering=True)
    return [int(leaf) for leaf in leaves_list(tree)]


def _draw(names: Sequence[str], counts: Sequence[int], drawn_CC: np.ma.MaskedArray, note: str) -> Figure:
    if not names:
        figure = Figure(figsize=(_WIDTH_PT / 72, 1.0))
        figure.text(0.5, 0.6, "no categories", ha="center", color=MUTED)
        return figure
    labels = [f"{name}  {count:,}" for name, count in zip(names, counts, strict=True)]
    cell, size, left, top = _sizes(names, labels)
    side = cell * len(names)
    height = top + side + _BELOW_PT
    figure = Figure(figsize=(_WIDTH_PT / 72, height / 72))
    box = (left / _WIDTH_PT, _BELOW_PT / height, side / _WIDTH_PT, side / height)
    axes: Axes = figure.add_axes(box, xlim=(0, len(names)), ylim=(len(names), 0))
    colours, norm = _colours(drawn_CC)
    edges = np.arange(len(names) + 1)
    mesh = axes.pcolormesh(
        edges, edges, drawn_CC, cmap=colours, norm=norm, edgecolors="white", linewidth=0.05 * cell
    )  # fmt: skip
    middles = edges[:-1] + 0.5
    axes.xaxis.tick_top()
    axes.set_xticks(middles, names, rotation=90, fontsize=size)
    axes.set_yticks(middles, labels, fontsize=size)
    axes.tick_params(length=0, pad=_PAD_PT)
    for spine in axes.spines.values():
        spine.set(visible=True, color=GRID)
    _bar(figure, mesh, left, height)
    figure.text(_EDGE_PT / _WIDTH_PT, 8 / height, note, fontsize=7.5, color=MUTED, va="bottom")
    return figure


def _sizes(names: Sequence[str], labels: Sequence[str]) -> tuple[float, float, float, float]:
    """Sizes in points, as large as the width allows: a cell, the font of labels, and the left and the top margin."""
    # Widths are proportional to the font size, so they are measured once.
    label_em, name_em = (max(plot_style.text_width_pt(text, 1.0) for text in texts) for texts in (labels, names))
    space = _WIDTH_PT - 2 * _EDGE_PT - _PAD_PT
    size = min(_MAX_LABEL_PT, _LABEL_SHARE * space / (len(names) + _LABEL_SHARE * label_em))
    cell = min(_MAX_CELL_PT, (space - label_em * size) / len(names))
    return cell, size, _EDGE_PT + label_em * size + _PAD_PT, _EDGE_PT + name_em * size + _PAD_PT


def _colours(drawn_CC: np.ma.MaskedArray) -> tuple[LinearSegmentedColormap, Normalize]:
    """Blues from zero, and oranges for negative similarities if there are any, on the same scale."""
    low, high = (float(drawn_CC.min()), float(drawn_CC.max())) if drawn_CC.count() else (0.0, 1.0)
    if low >= 0:
        return LinearSegmentedColormap.from_list("similar", _BLUES), Normalize(0.0, high or 1.0)
    largest = max(-low, high)
    # Both halves have the same number of steps, so that zero is in the middle.
    reds = LinearSegmentedColormap.from_list("opposed", (*_REDS, _BLUES[0]))
    blues = LinearSegmentedColormap.from_list("similar", _BLUES)
    steps = np.linspace(0, 1, 129)
    both = np.concatenate([reds(steps)[:-1], blues(steps)])
    return LinearSegmentedColormap.from_list("both", both), Normalize(-largest, largest)


def _bar(figure: Figure, mesh: QuadMesh, left: float, height: float) -> None:
    width, thick = _BAR_PT
    box = (min(left, _WIDTH_PT - _EDGE_PT - width) / _WIDTH_PT, (_BELOW_PT - _BAR_DROP_PT) / height)
    axes = figure.add_axes((box[0], box[1], width / _WIDTH_PT, thick / height))
    bar = figure.colorbar(mesh, cax=axes, orientation="horizontal")
    bar.outline.set_visible(False)
    axes.tick_params(labelsize=7.5, length=2.5, width=0.6)
    axes.set_title("cosine similarity", loc="left", fontsize=7.5, pad=3)
