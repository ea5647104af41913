"""Plans of sweeps on clusters: the times they are made of, their arms, prices and curve."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import in_process
from json_files import read_json

from simtune.config import Sweep, load_sweep
from simtune.errors import ConfigError
from simtune.planning import cluster_times
from simtune.planning.cluster_plan import ClusterPlan, NodeType, plan_cluster
from simtune.planning.cluster_times import given_times, measured_times
from simtune.planning.plan import plan_sweep
from simtune.planning.schedule import TrialWork
from simtune.storage.records import read_record, write_record
from simtune.sweep.timings import DriverTimings, Timings
from simtune.trial.records import Costs
from simtune.wording import counted


def sweep_of(finished: Path, *overrides: str) -> Sweep:
    return load_sweep(finished / "sweep-file.yaml", [f"storage={finished}", *overrides])


def set_seconds(finished: Path, trained: tuple[float, float], untuned: float) -> dict[bool, str]:
    """Gives the finished trials seconds of training and answering; returns their ids by whether they were trained."""
    ids = {}
    for path in sorted(finished.glob("trials/*/scores/*/costs.json")):
        costs = read_record(path, Costs)
        if costs.workers is None:
            continue
        is_trained = bool(costs.train_s)
        ids[is_trained] = costs.trial
        seconds = trained if is_trained else (0.0, untuned)
        write_record(path, costs.model_copy(update={"train_s": seconds[0], "evaluate_s": seconds[1]}))
    return ids


def write_timings(finished: Path, trials: dict[str, tuple[float, float]]) -> None:
    driver = DriverTimings(before_s=12.0, after_s=3.0, num_rows=3, trials=trials)
    write_record(finished / "tiny" / "timings.json", Timings(drivers=(driver,)))


def this_cpu(finished: Path) -> str:
    threads = next(costs.threads for costs in all_costs(finished) if costs.threads)
    return f"cpu with {counted(threads, 'thread')}"


def all_costs(finished: Path) -> list[Costs]:
    return [read_record(path, Costs) for path in sorted(finished.glob("trials/*/scores/*/costs.json"))]


def set_costs(finished: Path, trial: str, **changes: Any) -> None:
    """Changes what the scores of a finished trial cost."""
    for path in finished.glob(f"trials/{trial}/scores/*/costs.json"):
        write_record(path, read_record(path, Costs).model_copy(update=changes))


def trained_tokens(finished: Path, trial: str) -> int:
    (metrics,) = (finished / "trials" / trial).glob("scores/*/metrics.json")
    training = read_json(metrics)["training"]
    return int(training["num_source_tokens"] + training["num_target_tokens"])


def test_trials_take_seconds_by_their_tokens_and_instances(finished: Path) -> None:
    ids = set_seconds(finished, trained=(10.0, 4.0), untuned=6.0)
    write_timings(finished, {ids[True]: (0.0, 34.0), ids[False]: (34.0, 42.0)})
    sweep = sweep_of(finished, "selection.sizes=[2,4]", "baselines=[untuned]")
    planned = plan_sweep(sweep).trials
    times = measured_times(planned, sweep)
    by_size = dict(zip((trial.size for trial in planned), times.work, strict=True))
    token_s = 10.0 / trained_tokens(finished, ids[True])
    trained = {trial.size: TrialWork(pytest.approx(token_s * trial.train_tokens), 4.0) for trial in planned[1:]}
    assert by_size == {None: TrialWork(0.0, pytest.approx(6.0)), **trained}
    # Of 34 s, 14 are work; of the next 8 in the same slot, 6 are.
    assert (times.start_s, times.around_s) == (pytest.approx(18.0), pytest.approx(2.0))
    assert (times.before_s, times.after_s, times.num_rows, times.on_gpu) == (12.0, 3.0, 3, False)
    assert times.source == f"measured on 2 finished trials of {finished / 'tiny'} ({this_cpu(finished)})"


def test_the_overheads_of_a_run_with_two_slots_are_medians_of_each(finished: Path) -> None:
    ids = set_seconds(finished, trained=(10.0, 4.0), untuned=6.0)
    write_timings(finished, {ids[True]: (0.0, 34.0), ids[False]: (1.0, 30.0)})
    times = measured_times((), sweep_of(finished))
    # Both are the first of their slots: 20 s and 24 s more than their work.
    assert (times.start_s, times.around_s) == (pytest.approx(22.0), 0.0)
    (finished / "tiny" / "timings.json").unlink()
    times = measured_times((), sweep_of(finished))
    assert (times.start_s, times.around_s) == (30.0, 2.0)
    assert times.source.endswith("; what is beside them is assumed, because no driver of that run has ended")


@pytest.mark.parametrize(
    "change",
    [
        "model.config.d_ff=64",
        "training.batch_size=4",
        "resources.cpus_per_worker=2",
        "evaluation.max_new_tokens=9",
        "encoding.positive=1",
        "name=another",
    ],
)
def test_trials_of_other_settings_say_nothing(finished: Path, change: str) -> None:
    sweep = sweep_of(finished, change)
    planned = plan_sweep(sweep).trials
    with pytest.raises(ConfigError, match=r"no trial has finished with these settings.* or give --trial-minutes"):
        measured_times(planned, sweep)


def test_another_number_of_epochs_or_instances_changes_the_seconds_of_finished_trials(finished: Path) -> None:
    set_seconds(finished, trained=(10.0, 4.0), untuned=6.0)

    def seconds(*overrides: str) -> list[TrialWork]:
        sweep = sweep_of(finished, "baselines=[untuned]", "training.learning_rate=0.5", *overrides)
        return list(measured_times(plan_sweep(sweep).trials, sweep).work)

    (untuned, trained) = seconds()
    epochs = sweep_of(finished).training.epochs
    assert seconds(f"training.epochs={3 * epochs}") == [
        untuned,
        TrialWork(pytest.approx(3 * trained.train_s, rel=1e-3), trained.evaluate_s),
    ]
    (fewer_untuned, fewer) = seconds("evaluation.instances_per_task=1")
    assert fewer.evaluate_s < 0.75 * trained.evaluate_s
    assert fewer_untuned.evaluate_s < 0.75 * untuned.evaluate_s


@pytest.mark.parametrize("change", [{"failed_attempts": 1}, {"resumed": True}, {"train_s": 0.0}, {"speed": None}])
def test_a_trial_whose_seconds_are_not_whole_says_nothing(finished: Path, change: dict[str, Any]) -> None:
    ids = set_seconds(finished, trained=(10.0, 4.0), untuned=6.0)
    set_costs(finished, ids[True], **change)
    sweep = sweep_of(finished)
    with pytest.raises(ConfigError, match=r"no trial has finished with these settings in one attempt"):
        measured_times(plan_sweep(sweep).trials, sweep)


def test_trials_of_several_devices_are_not_mixed(finished: Path) -> None:
    ids = set_seconds(finished, trained=(10.0, 4.0), untuned=6.0)
    sweep = sweep_of(finished, "baselines=[untuned]")
    planned = plan_sweep(sweep).trials
    set_costs(finished, ids[False], device="A GPU")
    cpu = this_cpu(finished)
    # Each has run one trial: the baseline's time on the GPU is not a time of the CPU.
    times = measured_times(planned, sweep, on_gpu=False)
    assert times.on_gpu is False
    assert [each.evaluate_s for each in times.work] == pytest.approx([4.0, 4.0])
    assert times.source.startswith(f"measured on 1 finished trial of {finished / 'tiny'} ({cpu}; 1 on A GPU left out)")
    with pytest.raises(ConfigError, match=r"no trial has finished with these settings in one attempt on A GPU"):
        measured_times(planned, sweep, on_gpu=True)
    set_costs(finished, ids[True], device="A GPU")
    assert measured_times(planned, sweep).on_gpu is True
    with pytest.raises(ConfigError, match=r"its trials ran on A GPU, which does not say how long one takes on a CPU"):
        plan_cluster(sweep, plan_sweep(sweep), 2, NodeType(gpus=0))
    assert plan_cluster(sweep, plan_sweep(sweep), 2, NodeType()).hours_of == "GPU"


def test_nodes_with_gpus_are_not_planned_by_trials_on_cpus(finished: Path) -> None:
    sweep = sweep_of(finished)
    for node, changed in (
        (NodeType(gpus=1), sweep),
        (NodeType(), sweep_of(finished, "resources.gpus_per_worker=1")),
    ):
        with pytest.raises(ConfigError, match=r"its trials ran on cpu.*, which does not say .* on a GPU"):
            plan_cluster(changed, plan_sweep(changed), 2, node)


def test_times_do_not_need_the_sweep_file_of_the_run(finished: Path) -> None:
    set_seconds(finished, trained=(10.0, 4.0), untuned=6.0)
    sweep = sweep_of(finished)
    planned = plan_sweep(sweep).trials
    before = measured_times(planned, sweep)
    # A driver of another grid writes its settings long before its rows.
    path = finished / "tiny" / "sweep.yaml"
    path.write_text(path.read_text().replace("grid: {}", "grid: {training.epochs: [7, 8]}"))
    assert "training.epochs: [7, 8]" in path.read_text()
    assert measured_times(planned, sweep) == before


def test_saved_weights_take_no_seconds_of_training(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_seconds(finished, trained=(10.0, 4.0), untuned=6.0)
    # As if different trials had shown that a training takes 7 s even without tokens.
    real = cluster_times._line
    monkeypatch.setattr(cluster_times, "_line", lambda points: lambda x: 7.0 + real(points)(x))
    sweep = sweep_of(finished, "baselines=[]")
    (whole,) = plan_sweep(sweep).trials
    scored = replace(whole, num_steps=0, train_tokens=0)
    trained_work, scored_work = measured_times((whole, scored), sweep).work
    assert trained_work.train_s == pytest.approx(17.0, rel=0.2)
    assert scored_work == TrialWork(0.0, trained_work.evaluate_s)


def test_given_minutes_are_the_mean_in_proportion_to_tokens(finished: Path) -> None:
    planned = [trial for trial in plan_sweep(sweep_of(finished, "selection.sizes=[2,4]")).trials if trial.test_tokens]
    work = given_times(planned, 90.0, planned).work
    seconds = [each.train_s + each.evaluate_s for each in work]
    assert sum(seconds) == pytest.approx(90.0 * len(planned))
    tokens = [trial.train_tokens + trial.test_tokens for trial in planned]
    assert [each / tokens[0] for each in tokens] == pytest.approx([each / seconds[0] for each in seconds])


def planned(tiny: dict[str, Any], nodes: int, node: NodeType, spot_loss: float = 0.0, **fields: Any) -> ClusterPlan:
    sweep = Sweep.model_validate(tiny | {"baselines": ["untuned", "copy-input"]} | fields)
    return plan_cluster(sweep, plan_sweep(sweep), nodes, node, spot_loss, trial_minutes=10.0)


def test_arms_share_the_price_and_the_curve_says_where_nodes_stop_paying(tiny_sweep: dict[str, Any]) -> None:
    found = planned(tiny_sweep, 3, NodeType(price=2.0))
    expected = found.expected
    assert (expected.nodes, expected.slots, found.hours_of) == (3, 3, "CPU")
    assert found.node == NodeType(cpus=1, gpus=0, price=2.0)
    assert expected.price == pytest.approx(2.0 * 3 * expected.wall_s / 3600)
    assert expected.hours == pytest.approx(3 * expected.wall_s / 3600)
    # The copying baseline is the driver's own work.
    assert {arm.arm: arm.trials for arm in found.arms} == {"different": 2, "random": 2, "untuned": 1}
    assert sum(arm.price or 0.0 for arm in found.arms) == pytest.approx(expected.price)
    assert 5 * 10 / 60 < sum(arm.hours for arm in found.arms) < expected.hours
    assert [each.nodes for each in found.curve] == [1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512, 1000]
    walls_s = {each.nodes: each.wall_s for each in found.curve}
    assert walls_s[1] > 5 * 600 > walls_s[2] > walls_s[8] == walls_s[1000] > 600
    # Five trials: the first number of nodes whose double is not worth a tenth.
    first = next(nodes for nodes in (1, 2, 4, 8) if walls_s[2 * nodes] > 0.9 * walls_s[nodes])
    assert found.pays_up_to == first
    assert (found.losses, found.repeated_hours) == (0.0, 0.0)
    assert planned(tiny_sweep, 3, NodeType(price=2.0)) == found
    assert [each.nodes for each in planned(tiny_sweep, 1024, NodeType()).curve][-3:] == [512, 1000, 1024]
    json.dumps(found.to_dict())


def test_losses_cost_time_and_checkpoints_save_it(tiny_sweep: dict[str, Any]) -> None:
    none, rare, many = (
        planned(tiny_sweep, 2, NodeType(), loss, resources={"checkpoint_minutes": minutes})
        for loss, minutes in ((0.0, None), (6.0, 1.0), (6.0, None))
    )
    assert none.expected.wall_s < rare.expected.wall_s < many.expected.wall_s
    assert none.expected.shortest_s == none.expected.wall_s == none.expected.longest_s
    assert many.expected.shortest_s < many.expected.wall_s < many.expected.longest_s
    assert 0.0 < rare.repeated_hours < many.repeated_hours
    assert rare.losses > 0


@pytest.mark.parametrize(
    ("resources", "node", "nodes", "slots", "filled"),
    [
        ({"workers": 2}, NodeType(), 3, 3, NodeType(2, 0)),
        ({"workers": 2}, NodeType(cpus=1), 5, 2, NodeType(1, 0)),
        ({"cpus_per_worker": 4}, NodeType(cpus=9), 3, 6, NodeType(9, 0)),
        ({"gpus_per_worker": 0.25}, NodeType(), 2, 8, NodeType(4, 1)),
        ({"gpus_per_worker": 1, "workers": 4}, NodeType(cpus=8, gpus=2), 4, 2, NodeType(8, 2)),
        ({"max_concurrent": 2}, NodeType(cpus=4), 8, 2, NodeType(4, 0)),
        ({}, NodeType(gpus=2), 3, 6, NodeType(4, 2)),
    ],
)
def test_nodes_hold_as_many_trials_as_their_workers_fit(
    tiny_sweep: dict[str, Any], resources: dict[str, Any], node: NodeType, nodes: int, slots: int, filled: NodeType
) -> None:
    found = planned(tiny_sweep, nodes, node, resources=resources)
    assert (found.expected.slots, found.node) == (slots, filled)
    assert found.hours_of == ("GPU" if filled.gpus else "CPU")
    assert found.expected.hours == pytest.approx(
        nodes * (filled.gpus or filled.cpus or 0) * found.expected.wall_s / 3600
    )


def test_a_worker_that_fits_no_node_is_refused(tiny_sweep: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="a worker needs 4 CPUs on one host"):
        planned(tiny_sweep, 3, NodeType(cpus=2), resources={"cpus_per_worker": 4})


def test_the_command_line_shows_and_refuses(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call = in_process(monkeypatch, capsys)
    line = f"plan {finished / 'sweep-file.yaml'} --storage {finished}"
    code, out, _ = call(f"{line} --nodes 2 --spot-loss 0.05 --node-type cpus=2,price=1.25")
    assert code == 0
    assert "2 nodes with 2 CPUs each, 4 trials at once: " in out
    assert f"measured on 2 finished trials of {finished / 'tiny'} (cpu" in " ".join(out.split())
    assert "Losses: 0.05 a node-hour" in out
    assert "Wall time by number of nodes" in out
    code, out, _ = call(f"{line} --nodes 2 --json --set selection.seeds=[1]")
    cluster = json.loads(out)["cluster"]
    assert cluster["expected"]["nodes"] == 2
    assert [arm["arm"] for arm in cluster["arms"]] == ["random", "untuned"]
    code, out, _ = call(f"{line} --json")
    assert (code, "cluster" in json.loads(out)) == (0, False)
    for words, message in (
        ("--spot-loss 0.1", "--spot-loss, --node-type and --trial-minutes need --nodes"),
        ("--nodes 0", "0 is not between 1 and 100000"),
        ("--nodes 1000000000", "1000000000 is not between 1 and 100000"),
        ("--nodes 2 --trial-minutes 1e300", "1e300 is not between 0 and 1000000000"),
        ("--nodes 2 --spot-loss -1", "-1 is not between 0 and 1000000000"),
        ("--nodes 2 --node-type gpu=1", "'gpu' is not one of cpus, gpus, vram, price; did you mean 'gpus'?"),
        ("--nodes 2 --node-type cpus=0", "0 is not at least 1"),
        ("--nodes 2 --node-type cpus=2,gpus=1,cpus=4", "cpus is given twice: 'cpus=2,gpus=1,cpus=4'"),
        ("--nodes 2 --set training.batch_size=4", "or give --trial-minutes"),
    ):
        code, _, err = call(f"{line} {words}")
        assert (code, message in err) == (2, True), err
