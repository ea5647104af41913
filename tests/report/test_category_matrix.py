from itertools import pairwise

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from simtune.report.category_matrix import MAX_CATEGORIES, cluster_order, figure_category_matrix


def test_similar_categories_are_next_to_each_other():
    # Two groups, shuffled.
    group = np.array([0, 1, 0, 1, 1, 0, 0])
    similarity_CC = np.where(group[:, None] == group, 0.8, -0.2)
    ordered = group[cluster_order(similarity_CC)].tolist()
    assert ordered in ([0] * 4 + [1] * 3, [1] * 3 + [0] * 4)
    plot = figure_category_matrix([f"c{g}-{i}" for i, g in enumerate(group)], similarity_CC, [1] * 7)
    rows = [label.get_text().split()[0] for label in plot.figure.axes[0].get_yticklabels()]
    assert [int(name[1]) for name in rows] == ordered
    (mesh,) = plot.figure.axes[0].collections
    drawn_CC = mesh.get_array().reshape(7, 7)
    assert np.ma.getmaskarray(drawn_CC).tolist() == np.eye(7, dtype=bool).tolist()
    assert drawn_CC[0, 6] == -0.2
    # Opposed pairs: two colours that meet at zero.
    assert mesh.norm(0.0) == 0.5


def test_labels_of_sixty_categories_do_not_overlap_and_the_smallest_are_left_out():
    count = MAX_CATEGORIES + 5
    names = ["Qg" * 30 if number == 30 else f"Qg {number}" for number in range(count)]
    plot = figure_category_matrix(names, np.full((count, count), 0.3), list(range(count)))
    axes = plot.figure.axes[0]
    # Extents are whole pixels.
    plot.figure.set_dpi(400)
    renderer = FigureCanvasAgg(plot.figure).get_renderer()
    shown = [label.get_text() for label in axes.get_xticklabels()]
    assert sorted(shown) == sorted([*names[5:30], "Qg" * 19 + "Q…", *names[31:]])
    assert "the 60 largest of 65" in plot.caption
    for labels, low, high in ((axes.get_xticklabels(), "x0", "x1"), (axes.get_yticklabels(), "y0", "y1")):
        boxes = sorted([label.get_window_extent(renderer) for label in labels], key=lambda box: getattr(box, low))
        assert all(getattr(a, high) <= getattr(b, low) for a, b in pairwise(boxes))
        assert all(box.x0 >= 0 and box.y1 <= plot.figure.bbox.y1 for box in boxes)
