"""`random`: one permutation a seed.

Tasks are ranked by a hash of seed and name, so the permutation is the same on every machine, and a task that joins
or leaves the pool does not change the order of the others.
"""

from __future__ import annotations

import hashlib

from simtune.graph.similarity import SimilarityGraph


def shuffled(graph: SimilarityGraph, size: int, seed: int) -> list[int]:
    """The first tasks of the seed's permutation. O(N log N)."""

    def rank(index: int) -> bytes:
        return hashlib.blake2b(f"{seed}\0{graph.names[index]}".encode(), digest_size=16).digest()

    return sorted(range(len(graph)), key=rank)[:size]
