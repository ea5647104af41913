"""Pieces of work that share torch's threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from simtune.training.side_by_side import num_side_by_side, side_by_side

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def product(seed: int) -> torch.Tensor:
    made = torch.randn(300, 300, generator=torch.Generator().manual_seed(seed))
    return made @ made


def test_results_come_in_order_and_are_those_of_one_thread() -> None:
    together = side_by_side(product, range(9), CPU)
    torch.set_num_threads(1)
    for seed, result in enumerate(together):
        assert torch.equal(result, product(seed))


@pytest.mark.parametrize(("num_threads", "each"), [(1, 1), (2, 1), (3, 1), (8, 2)])
def test_threads_are_divided_and_a_single_piece_has_all(num_threads: int, each: int) -> None:
    torch.set_num_threads(num_threads)
    assert side_by_side(lambda _: torch.get_num_threads(), range(9), CPU) == [each] * 9
    assert side_by_side(lambda _: torch.get_num_threads(), [0], CPU) == [num_threads]
    assert num_side_by_side(torch.device("cuda")) == 1


def test_this_thread_and_later_ones_have_their_threads_again_also_after_an_error() -> None:
    def fail(_: int) -> None:
        raise ValueError("a piece")

    with pytest.raises(ValueError, match="a piece"):
        side_by_side(fail, range(3), CPU)
    numbers = torch.__config__.parallel_info()
    assert "at::get_num_threads() : 2" in numbers
    assert "mkl_get_max_threads() : 1" not in numbers


def test_no_piece_records_gradients() -> None:
    weights = torch.ones(2, requires_grad=True)
    assert all(result.is_inference() for result in side_by_side(lambda number: weights * number, range(3), CPU))
