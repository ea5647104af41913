"""The claims of the study, each with what the run says about it: supported, contradicted or open.

Which arm stands for different tasks and which for similar ones is measured: the ones whose sets have the lowest and the
highest mean similarity. A claim is about choices of tasks, not about two models that happen to exist, so with one seed
it stays open.
"""

from __future__ import annotations

import math

from simtune.config.selection import ORACLE_MARK
from simtune.report.results_view import GridPoint, one_line
from simtune.report.statistics.intervals import Estimate, Intervals
from simtune.report.statistics.records import Claim, Comparison, Covers, Interval, OfFull, Verdict
from simtune.report.statistics.task_scores import PointScores
from simtune.report.statistics.wording import (
    ONE_SEED,
    certainty,
    contains,
    listed,
    over,
    quoted,
    signed,
    span,
    what_settles,
)
from simtune.wording import counted

NEAR_FULL = 0.05
"""A subset is near the full pool if its score is at most this share below it."""
_SIMILARITY = "mean_similarity"


def claims(
    point: GridPoint,
    scores: PointScores,
    intervals: Intervals,
    of_full: list[OfFull],
    comparisons: list[Comparison],
) -> list[Claim]:
    """All claims that the arms of a grid point say something about."""
    found = [
        _different_beat_similar(point, scores, intervals),
        _more_beat_fewer(point, scores, intervals),
        _near_full(point, scores, intervals, of_full),
        *(_against_baseline(point, scores, comparisons, cell.arm) for cell in point.baselines),
    ]
    return [claim for claim in found if claim is not None]


def _verdict(interval: Interval | None, covers: Covers, limit: float, higher: bool) -> Verdict:
    """Whether a difference is above a limit, on the side where higher is better."""
    if interval is None or covers != "test tasks and seeds" or contains(interval, limit):
        return "open"
    above = interval.low is not None and interval.low > limit
    return "supported" if above == higher else "contradicted"


def _by_similarity(point: GridPoint, scores: PointScores) -> tuple[str, str, list[int]] | None:
    """The arms with the least and the most similar sets, and the sizes at which both have a score of their own."""
    by_size: dict[int, dict[str, float]] = {}
    for cell in scores.cells:
        similarity = cell.mean(_SIMILARITY)
        is_arm = cell.type == "strategy" and not cell.arm.endswith(ORACLE_MARK)
        if is_arm and cell.size is not None and similarity is not None:
            by_size.setdefault(cell.size, {})[cell.arm] = similarity
    sizes = [size for size, arms in by_size.items() if len(arms) > 1]
    if not sizes:
        return None
    arms = [arm for arm in point.arms if any(arm in by_size[size] for size in sizes)]
    # At a size where an arm is missing it is as similar as the others on average.
    middle = {size: math.fsum(by_size[size].values()) / len(by_size[size]) for size in sizes}
    distance = {arm: math.fsum(by_size[s].get(arm, middle[s]) - middle[s] for s in sizes) for arm in arms}
    least, most = min(arms, key=lambda arm: distance[arm]), max(arms, key=lambda arm: distance[arm])
    shared = sorted(
        size
        for size in sizes
        if least in by_size[size]
        and most in by_size[size]
        and _trials(scores, least, size) != _trials(scores, most, size)
    )
    return (least, most, shared) if least != most and shared else None


def _position(scores: PointScores, arm: str, size: int) -> int:
    return next(i for i, cell in enumerate(scores.cells) if (cell.arm, cell.size) == (arm, size))


def _trials(scores: PointScores, arm: str, size: int) -> set[str]:
    return {row["trial"] for row in scores.cells[_position(scores, arm, size)].done}


def _sizes(scores: PointScores, arm: str, sizes: list[int]) -> str:
    numbers = [f"{scores.cells[_position(scores, arm, size)].num_tasks:,}" for size in sizes]
    return f"{listed(numbers)} {'task' if numbers == ['1'] else 'tasks'}"


def _different_beat_similar(point: GridPoint, scores: PointScores, intervals: Intervals) -> Claim | None:
    found = _by_similarity(point, scores)
    if found is None:
        return None
    different, similar, sizes = found
    contrast: dict[int, float] = {}
    for size in sizes:
        contrast[_position(scores, different, size)] = 1 / len(sizes)
        contrast[_position(scores, similar, size)] = -1 / len(sizes)
    (estimate,) = intervals.estimate([contrast])
    side = _side(estimate.value, point)
    mean = "on average over" if len(sizes) > 1 else "at"
    head = f"{quoted(different)} scored {side} {quoted(similar)} {mean} {_sizes(scores, different, sizes)}"
    return _claim("different tasks beat similar ones", head, estimate, point)


def _side(value: float, point: GridPoint) -> str:
    metric = point.headline
    if metric.text(abs(value)) == metric.text(0.0):
        return "the same as"
    return f"{metric.text(abs(value))} {metric.unit} {'higher' if value > 0 else 'lower'} than"


def _more_beat_fewer(point: GridPoint, scores: PointScores, intervals: Intervals) -> Claim | None:
    ends: dict[tuple[int, int], list[str]] = {}
    for arm in point.arms:
        of_arm = [(cell.num_tasks, i) for i, cell in enumerate(scores.cells) if cell.arm == arm and cell.num_tasks]
        if len({tasks for tasks, _ in of_arm}) > 1:
            ends.setdefault((min(of_arm)[0], max(of_arm)[0]), []).append(arm)
    if not ends:
        return None
    (fewest, most), arms = max(ends.items(), key=lambda item: (len(item[1]), item[0][1] / item[0][0]))
    contrast: dict[int, float] = {}
    for index, cell in enumerate(scores.cells):
        if cell.arm in arms and cell.num_tasks in (fewest, most):
            sign = 1 if cell.num_tasks == most else -1
            same = [c for c in scores.cells if c.arm == cell.arm and c.num_tasks == cell.num_tasks]
            contrast[index] = sign / len(arms) / len(same)
    (estimate,) = intervals.estimate([contrast])
    arms_text = f"on average over {counted(len(arms), 'arm')}" if len(arms) > 1 else f"for {quoted(arms[0])}"
    metric = point.headline
    head = (
        f"going from {fewest:,} to {counted(most, 'task')} changed {metric.title} by "
        f"{signed(estimate.value, metric.digits)} {metric.unit} {arms_text}"
    )
    return _claim("more tasks beat fewer", head, estimate, point)


def _claim(name: str, head: str, estimate: Estimate, point: GridPoint) -> Claim:
    """A claim that a difference is on the better side of 0."""
    verdict = _verdict(estimate.interval, estimate.covers, 0.0, point.headline.higher_is_better)
    reason = f" ({estimate.reason})" if estimate.reason else ""
    return Claim(
        name=name,
        sentence=_sentence(
            name, verdict, f"{head}{reason}. {certainty(estimate.interval, estimate.covers, point.headline)}"
        ),
        verdict=verdict,
        difference=estimate.value,
        interval=estimate.interval,
        covers=estimate.covers,
        settles=what_settles(estimate, estimate.value, point.headline) if verdict == "open" else "",
    )


def _sentence(name: str, verdict: Verdict, rest: str) -> str:
    return f"{name[0].upper()}{name[1:]}: {verdict}. {rest[0].upper() if rest[0] != '“' else rest[0]}{rest[1:]}"


def _near_full(point: GridPoint, scores: PointScores, intervals: Intervals, of_full: list[OfFull]) -> Claim | None:
    """The least size at which the claim holds, from the largest size downwards, or the largest size if none does.

    Sizes are tested in an order that does not depend on the scores, and the first failure ends it: no correction is
    needed (Maurer, Hothorn and Lehmacher 1995).
    """
    found = _by_similarity(point, scores)
    own = [share for share in of_full if found is not None and share.of.arm == found[0]]
    if not own:
        return None
    own.sort(key=lambda share: -share.of.num_tasks)
    higher = point.headline.higher_is_better
    limit = -NEAR_FULL if higher else NEAR_FULL
    verdicts = [_verdict(share.interval, share.covers, limit, higher) for share in own]
    num_supported = next((i for i, verdict in enumerate(verdicts) if verdict != "supported"), len(own))
    shown, verdict = own[max(num_supported - 1, 0)], verdicts[max(num_supported - 1, 0)]
    name = f"a small set of different tasks comes within {100 * NEAR_FULL:.0f} % of the full pool"
    settles = ""
    if verdict == "open":
        arm = next(i for i, arm in enumerate(scores.arms) if arm.of == shown.of)
        full = next(i for i, cell in enumerate(scores.cells) if cell.type == "full")
        (estimate,) = intervals.estimate([{arm: 1.0, full: -(1 + limit)}])
        settles = what_settles(estimate, estimate.value, point.headline)
    return Claim(
        name=name,
        sentence=_sentence(name, verdict, _share_in_words(shown, limit)),
        verdict=verdict,
        difference=shown.change,
        interval=shown.interval,
        covers=shown.covers,
        settles=settles,
    )


def _share_in_words(shown: OfFull, limit: float) -> str:
    side = "below" if shown.change < 0 else "above"
    head = (
        f"with {counted(shown.of.num_tasks, 'task')}, {shown.times_fewer:.1f} times fewer than the pool's "
        f"{shown.full_tasks:,}, {quoted(shown.of.arm)} scored {abs(100 * shown.change):.1f} % {side} the full pool."
    )
    if shown.interval is None:
        return f"{head} How far chance reaches is not known."
    low, high = (None if end is None else 100 * end for end in (shown.interval.low, shown.interval.high))
    percent = span(Interval(low=low, high=high), 1)
    if contains(shown.interval, limit):
        return f"{head} With {over(shown.covers)} it could be anything from {percent} % (95 % interval)."
    if shown.covers == "test tasks and seeds":
        return f"{head} With {over(shown.covers)} it would be {percent} % (95 % interval)."
    return f"{head} With {over(shown.covers)} it would be {percent} % (95 % interval) {ONE_SEED}."


def _against_baseline(
    point: GridPoint, scores: PointScores, comparisons: list[Comparison], baseline: str
) -> Claim | None:
    """Which trained arms a baseline beats, and from which it cannot be told apart: about the models that there are."""
    found = [c for c in comparisons if c.family == f"baseline {baseline}"]
    if not found:
        return None
    metric = point.headline
    groups: dict[str, list[Comparison]] = {"second": [], "": [], "first": []}
    for comparison in found:
        groups[comparison.better or ""].append(comparison)
    parts = []
    if groups["second"]:
        parts.append(f"is better than {_models(groups['second'])}")
    if groups[""]:
        parts.append(f"cannot be told apart from {_models(groups[''])}")
    if groups["first"]:
        parts.append(f"is worse than {_models(groups['first']) if parts else 'every trained model'}")
    mean = next(arm.mean for arm in scores.arms if arm.of == found[0].second)
    verdict: Verdict = "contradicted" if groups["second"] else "open" if groups[""] else "supported"
    return Claim(
        name=f"training beats {one_line(baseline, 60)}",
        sentence=f"{quoted(baseline)}, which trains on no task, scored {metric.text(mean)}: it {'; it '.join(parts)}.",
        verdict=verdict,
        difference=None,
        interval=None,
        covers=found[0].covers,
        settles="",
    )


def _models(comparisons: list[Comparison]) -> str:
    """Trained models by their sizes: `“a” and “b” at 10 and 20 tasks`."""
    sizes: dict[str, list[str]] = {}
    for comparison in comparisons:
        sizes.setdefault(comparison.first.arm, []).append(f"{comparison.first.num_tasks:,}")
    arms: dict[tuple[str, ...], list[str]] = {}
    for arm, own in sizes.items():
        arms.setdefault(tuple(own), []).append(quoted(arm))
    groups = [f"{listed(names)} at {listed(own)} {'task' if own == ('1',) else 'tasks'}" for own, names in arms.items()]
    return ", and ".join(filter(None, (", ".join(groups[:-1]), groups[-1])))
