"""Tasks as points of a plane: near each other where they are similar.

Legend: N tasks, D dimensions, 2 coordinates of the plane.
"""

from __future__ import annotations

import numpy as np

_MIN_TSNE_TASKS, _MAX_TSNE_TASKS = 4, 20_000
_PERPLEXITY = 30.0
_START_SCALE, _JITTER = 1e-4, 1e-6
# Of the jitter, which separates equal tasks.
_SEED = 0


def layout_2d(vectors_ND: np.ndarray) -> np.ndarray:
    """Positions of tasks in the plane, by t-SNE of cosine distances or, for very few or many tasks, by PCA.

    Args:
        vectors_ND: [N, D]; a zero vector has similarity 0 to everything.

    Returns:
        Float64 [N, 2], without unit, always finite, all zero where all vectors are equal. Everything runs in one
        thread, so that the same input gives the same bytes on one machine.

    Raises:
        ValueError: a vector contains NaN or an infinity.
    """
    vectors_ND = np.asarray(vectors_ND, dtype=np.float64)
    if not np.isfinite(vectors_ND).all():
        raise ValueError("a vector contains NaN or an infinity")
    if not vectors_ND.size or (vectors_ND == vectors_ND[0]).all():
        return np.zeros((len(vectors_ND), 2))
    # Imported before the limit, which affects only libraries that are loaded.
    import scipy.linalg  # noqa: F401
    import sklearn.manifold  # noqa: F401
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        principal_N2 = _principal_components(vectors_ND)
        if not _MIN_TSNE_TASKS <= len(vectors_ND) <= _MAX_TSNE_TASKS:
            return principal_N2
        placed_N2 = _tsne(vectors_ND, principal_N2)
    return placed_N2 if np.isfinite(placed_N2).all() else principal_N2


def _principal_components(vectors_ND: np.ndarray) -> np.ndarray:
    """The two directions of largest variance, [N, 2]; an axis points where its largest part is positive."""
    from scipy.linalg import eigh, svd

    centred_ND = vectors_ND - vectors_ND.mean(axis=0)
    num_tasks, num_dimensions = centred_ND.shape
    if num_tasks <= num_dimensions:
        axes_CD = svd(centred_ND, full_matrices=False)[2][:2]
    else:
        wanted = [max(0, num_dimensions - 2), num_dimensions - 1]
        axes_CD = eigh(centred_ND.T @ centred_ND, subset_by_index=wanted)[1].T[::-1]
    largest_C = axes_CD[np.arange(len(axes_CD)), np.abs(axes_CD).argmax(axis=1)]
    placed_N2 = np.zeros((num_tasks, 2))
    placed_N2[:, : len(axes_CD)] = centred_ND @ (axes_CD * np.where(largest_C < 0, -1.0, 1.0)[:, None]).T
    return placed_N2


def _tsne(vectors_ND: np.ndarray, principal_N2: np.ndarray) -> np.ndarray:
    from sklearn.manifold import TSNE

    # t-SNE's C code crashes the process on a start that is not finite.
    spread = float(principal_N2[:, 0].std())
    start_N2 = principal_N2 / spread * _START_SCALE if spread > 1e-150 else np.zeros_like(principal_N2)
    start_N2 = start_N2 + _JITTER * np.random.default_rng(_SEED).normal(size=start_N2.shape)
    tsne = TSNE(
        metric="cosine",
        init=start_N2.astype(np.float32),
        perplexity=min(_PERPLEXITY, (len(vectors_ND) - 1) / 3),
        random_state=_SEED,
        n_jobs=1,
    )
    placed_N2: np.ndarray = tsne.fit_transform(vectors_ND).astype(np.float64)
    return placed_N2
