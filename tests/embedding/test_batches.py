from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from simtune.embedding.batches import batches_by_length


@given(
    st.lists(st.integers(0, 40), max_size=30),
    st.integers(1, 32),
    st.integers(1, 6),
    st.one_of(st.none(), st.integers(1, 99)),
)
def test_batches_hold_texts_of_one_length_and_no_more_than_may_be(num_tokens, max_tokens, batch_size, batch_tokens):
    batches = list(batches_by_length(num_tokens, max_tokens, batch_size, batch_tokens))
    rows = [row for batch in batches for row in batch]
    # The longest first, those of one length (after the cut) as they were given, each once.
    assert rows == sorted(range(len(num_tokens)), key=lambda row: (-min(num_tokens[row], max_tokens), row))
    for batch, following in pairwise([*batches, []]):
        width = max(1, min(num_tokens[batch[0]], max_tokens))
        most = min(batch_size, max(1, (batch_tokens or 10**6) // width))
        assert len(batch) == most if following else 0 < len(batch) <= most
