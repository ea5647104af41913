"""A sweep on a cluster as tables for a terminal: what its arms take, and how long it takes on how many nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from simtune.planning.cluster_plan import ClusterPlan, Duration
from simtune.wording import counted, duration

if TYPE_CHECKING:
    from simtune.tables import TextTable


def cluster_tables(plan: ClusterPlan) -> tuple[TextTable, TextTable]:
    """The arms on the nodes that were asked for, and the curve over numbers of nodes."""
    return _arms_table(plan), _curve_table(plan)


def _arms_table(plan: ClusterPlan) -> TextTable:
    from simtune.tables import TextTable

    expected, node = plan.expected, plan.node
    has = counted(node.cpus or 0, "CPU") + (f", {counted(node.gpus, 'GPU')}" if node.gpus else "")
    price = "" if expected.price is None else f", price {expected.price:,.2f}"
    trials = f"{counted(plan.num_left, 'trial is', 'trials are')} left"
    done = f", {counted(plan.num_done, 'is', 'are')} done" if plan.num_done else ""
    lines = [f"{trials}{done}. Times: {plan.times_are}."]
    if plan.spot_loss:
        lines.append(
            f"Losses: {plan.spot_loss:g} a node-hour, {plan.losses:.1f} while nodes work, {plan.repeated_hours:.1f} "
            f"{plan.hours_of}-hours repeated, {duration(expected.shortest_s)} to "
            f"{duration(expected.longest_s)} in several draws."
        )
    table = TextTable(
        title=f"{counted(expected.nodes, 'node')} with {has} each, {counted(expected.slots, 'trial')} at once: "
        f"{duration(expected.wall_s)}, {expected.hours:,.1f} {plan.hours_of}-hours{price}",
        caption=" ".join(lines),
    )
    table.add_columns("arm")
    table.add_number_columns("trials", f"{plan.hours_of}-hours", *(["price"] if expected.price is not None else []))
    for arm in plan.arms:
        prices = [] if arm.price is None else [f"{arm.price:,.2f}"]
        table.add_row(arm.arm, f"{arm.trials:,}", f"{arm.hours:,.2f}", *prices)
    return table


def _curve_table(plan: ClusterPlan) -> TextTable:
    from simtune.tables import TextTable

    last = plan.curve[-1].nodes
    table = TextTable(
        title="Wall time by number of nodes",
        caption=f"Beyond {counted(plan.pays_up_to, 'node')}, twice as many shorten the sweep by less than 10 %."
        if plan.pays_up_to is not None
        else f"Twice as many nodes shorten the sweep by at least 10 % up to {last:,} nodes.",
    )
    priced = plan.expected.price is not None
    table.add_number_columns(
        "nodes", "trials at once", "wall time", f"{plan.hours_of}-hours", *(["price"] if priced else [])
    )
    for each in plan.curve:
        table.add_row(*_cells(each), style="bold" if each.nodes == plan.expected.nodes else None)
    return table


def _cells(each: Duration) -> Sequence[str]:
    prices = [] if each.price is None else [f"{each.price:,.2f}"]
    return [f"{each.nodes:,}", f"{each.slots:,}", duration(each.wall_s), f"{each.hours:,.1f}", *prices]
