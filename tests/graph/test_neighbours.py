"""Neighbours and near-duplicates against all pairs one by one, with ties that float32 cannot tell apart."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtune.graph import neighbours
from simtune.graph.blocks import block_ranges, map_blocks_here
from simtune.graph.neighbours import near_duplicates, top_neighbours


def cosine(one_D, two_D):
    one_D, two_D = (v / (np.sqrt((v * v).sum()) or 1.0) for v in (one_D.astype(float), two_D.astype(float)))
    if one_D.any() and (one_D == two_D).all():
        return 1.0
    return float(np.clip((one_D * two_D).sum(), -1, 1))


@st.composite
def vectors(draw, num_dimensions):
    """Unit vectors in groups that differ by less than float32 can represent; some equal, some zero."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    families = generator.normal(size=(draw(st.integers(1, 4)), num_dimensions))
    chosen = generator.integers(0, len(families), draw(st.integers(0, 24)))
    vectors_ND = families[chosen] + draw(st.sampled_from([0.0, 1e-9, 1e-7, 1.0])) * generator.normal(
        size=(len(chosen), num_dimensions)
    )
    vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    vectors_ND[generator.random(len(chosen)) < 0.1] = 0.0
    return vectors_ND.astype(draw(st.sampled_from([np.float32, np.float64])))


two_sets = st.integers(1, 40).flatmap(lambda d: st.tuples(vectors(d), st.none() | vectors(d)))


@settings(max_examples=120, deadline=None)
@given(two_sets, st.integers(0, 30), st.integers(4, 400))
def test_neighbours_are_those_of_all_pairs(sets, k, max_bytes):
    vectors_ND, other_MD = sets
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "block_ranges", partial(block_ranges, max_bytes=max_bytes))
        found = top_neighbours(vectors_ND, k, other_MD)
    searched = vectors_ND if other_MD is None else other_MD
    others = max(0, len(searched) - (other_MD is None))
    assert found.index_NK.shape == found.similarity_NK.shape == (len(vectors_ND), min(k, others))
    assert (found.index_NK.dtype, found.similarity_NK.dtype) == (np.int64, np.float64)
    for row, vector_D in enumerate(vectors_ND):
        ranked = sorted(
            (-cosine(vector_D, other_D), column)
            for column, other_D in enumerate(searched)
            if other_MD is not None or column != row
        )[:k]
        assert [(-s, i) for s, i in zip(found.similarity_NK[row], found.index_NK[row], strict=True)] == ranked


@settings(max_examples=120, deadline=None)
@given(two_sets, st.data())
def test_near_duplicates_are_those_of_all_pairs(sets, data):
    vectors_ND, other_MD = sets
    pairs = [
        (-cosine(one_D, two_D), i, j)
        for i, one_D in enumerate(vectors_ND)
        for j, two_D in enumerate(vectors_ND if other_MD is None else other_MD)
        if other_MD is not None or i < j
    ]
    # A threshold that a pair meets to the bit, or one in between.
    threshold = -data.draw(st.sampled_from(pairs))[0] if pairs else 0.5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "block_ranges", partial(block_ranges, max_bytes=data.draw(st.integers(4, 400))))
        found = near_duplicates(vectors_ND, threshold, other_MD)
    triples = zip((-found.similarity_P).tolist(), found.first_P.tolist(), found.second_P.tolist(), strict=True)
    assert list(triples) == sorted(pair for pair in pairs if -pair[0] >= threshold)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_is_refused(bad):
    vectors_ND = np.eye(3)
    vectors_ND[1, 1] = bad
    with pytest.raises(ValueError, match="NaN or an infinity"):
        top_neighbours(vectors_ND, 1)
    with pytest.raises(ValueError, match="NaN or an infinity"):
        near_duplicates(np.eye(3), 0.5, vectors_ND)


def test_blocks_cover_the_rows_and_stay_small():
    ranges = block_ranges(100_000, 100_000)
    assert [row for begin, end in ranges for row in (begin, end)][1:-1:2] == [begin for begin, _ in ranges[1:]]
    assert (ranges[0][0], ranges[-1][1]) == (0, 100_000)
    assert max(end - begin for begin, end in ranges) * 100_000 * 4 <= 64 << 20
    assert block_ranges(2, 10**9) == [(0, 1), (1, 2)]
    assert block_ranges(0, 5) == []


_IN_RAY = """
from functools import partial
import numpy as np, pytest
from simtune.graph import neighbours
from simtune.graph.blocks import block_ranges
from simtune.graph.neighbours import near_duplicates, top_neighbours
from simtune.executors.ray_blocks import map_blocks_with_ray

neighbours.block_ranges = partial(block_ranges, max_bytes=4 * 400 * 23)
vectors_ND = np.random.default_rng(0).normal(size=(400, 64)).astype(np.float32)
vectors_ND[300:] = vectors_ND[:100]
here, there = (top_neighbours(vectors_ND, 7, **how) for how in ({}, {"map_blocks": map_blocks_with_ray}))
np.testing.assert_array_equal(here.index_NK, there.index_NK)
np.testing.assert_array_equal(here.similarity_NK, there.similarity_NK)
pairs, pairs_there = (near_duplicates(vectors_ND, 0.3, **how) for how in ({}, {"map_blocks": map_blocks_with_ray}))
for name in ("first_P", "second_P", "similarity_P"):
    np.testing.assert_array_equal(getattr(pairs, name), getattr(pairs_there, name))
# Often, since Ray can end the driver where a task is cancelled as it ends.
for _ in range(50):
    with pytest.raises(KeyError, match="screen_ND"):
        list(map_blocks_with_ray(partial(neighbours._block_neighbours, k=1, within=True), {}, [(0, 1), (1, 2)]))
print(len(pairs))
"""


@pytest.mark.ray
def test_ray_gives_the_same_neighbours_and_raises_what_the_work_raised(ray_process):
    assert int(ray_process.run(_IN_RAY)) >= 100


def test_blocks_run_when_they_are_asked_for():
    # A map that ran ahead would have all results in memory at once.
    seen = []
    results = map_blocks_here(lambda arrays, begin, end: seen.append(begin), {}, [(0, 1), (1, 2)])
    next(results)
    assert seen == [0]
