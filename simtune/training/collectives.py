"""What the workers of a training exchange besides gradients: values of the first one, parts of all, a barrier."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from simtune.training.engine import World

T = TypeVar("T")


def from_first_worker(compute: Callable[[], T], world: World) -> T:
    """What `compute` returns on the first worker, on every worker; the others do not call it."""
    if world.size == 1:
        return compute()
    import torch.distributed as dist

    values: list[T | None] = [compute() if world.rank == 0 else None]
    dist.broadcast_object_list(values, src=0)
    return cast(T, values[0])


def merge_on_first_worker(part: dict[str, str], world: World) -> dict[str, str]:
    """The entries of all workers in one dictionary on the first worker, an empty one elsewhere."""
    if world.size == 1:
        return part
    import torch.distributed as dist

    parts: list[dict[str, str] | None] | None = [None] * world.size if world.rank == 0 else None
    dist.gather_object(part, parts, dst=0)
    return {name: value for each in parts or () if each for name, value in each.items()}


def wait_for_all(world: World) -> None:
    """Returns once every worker has called it."""
    if world.size > 1:
        import torch.distributed as dist

        dist.barrier()
