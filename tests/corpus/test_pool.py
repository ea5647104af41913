"""Which tasks take part, with which instances, and why the others do not."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtune.config import CorpusSettings, EvaluationSettings
from simtune.config.holdout import HoldoutSettings
from simtune.corpus.drawn_tasks import draw_instances
from simtune.corpus.pool import build_task_sets, task_fingerprint
from simtune.corpus.task import Demonstration, Instance, Task
from simtune.errors import CorpusError


def make_task(name="task1_x", num_instances=200):
    instances = tuple(Instance(f"{name}-{index}", f"in {index}", (f"out {index}",)) for index in range(num_instances))
    return Task(name, "Do.", ("A",), (Demonstration("p", "q"),), (), instances)


def ids(instances):
    return [instance.id for instance in instances]


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 2**32 - 1))
def test_smaller_draws_are_part_of_larger_ones_and_keep_file_order(one, other, seed):
    task = make_task()
    small, large = (ids(draw_instances(task, size, seed)) for size in sorted((one, other)))
    assert len(small) == min(one, other, 200)
    assert [instance for instance in ids(task.instances) if instance in small] == small
    assert set(small) <= set(large)


def test_the_draw_is_decided_by_seed_and_name_alone():
    drawn = draw_instances(make_task(), 5, seed=0)
    # Fixed for good: another draw would silently make old and new results differ.
    assert ids(drawn) == [f"task1_x-{index}" for index in (55, 65, 85, 172, 183)]
    other_content = replace(make_task(), definition="Other.", categories=("B",))
    assert draw_instances(other_content, 5, seed=0) == drawn
    assert draw_instances(make_task(), 5, seed=1) != drawn
    positions = [instance.input for instance in draw_instances(make_task("task2_x"), 5, seed=0)]
    assert positions != [instance.input for instance in drawn]


def test_every_instance_is_as_likely_to_be_drawn():
    counts = Counter(
        instance.input for n in range(400) for instance in draw_instances(make_task(f"task{n}", 20), 5, seed=0)
    )
    # 400 draws of 5 out of 20: 100 expected of each, with a standard deviation of about 8.7.
    assert all(60 < counts[f"in {index}"] < 140 for index in range(20))


def test_a_fingerprint_changes_with_anything_a_model_may_see():
    task = make_task(num_instances=2)
    changes = [
        {"name": "task2_x"},
        {"definition": "Don't."},
        {"categories": ("A", "B")},
        {"positive": (Demonstration("p", "q", "why"),)},
        {"negative": (Demonstration("p", "q"),)},
        {"instances": task.instances[:1]},
        {"instances": (task.instances[0], replace(task.instances[1], outputs=("out 1", "or")))},
    ]
    fingerprints = {task_fingerprint(replace(task, **change)) for change in [{}, *changes]}
    assert len(fingerprints) == len(changes) + 1
    assert task_fingerprint(task) == task_fingerprint(make_task(num_instances=2))


def write_corpus(root, tasks, train=None, test=None):
    """Tasks as name -> (category, number of instances), or bytes."""
    (root / "tasks").mkdir(parents=True)
    for name, content in tasks.items():
        if not isinstance(content, bytes):
            category, count = content
            instances = [{"id": f"{name}-{i}", "input": str(i), "output": ["y"]} for i in range(count)]
            content = json.dumps({"Definition": "Do.", "Categories": [category], "Instances": instances}).encode()
        (root / "tasks" / f"{name}.json").write_bytes(content)
    for kind, names in (("train", train), ("test", test)):
        if names is not None:
            (root / "splits/default").mkdir(parents=True, exist_ok=True)
            (root / f"splits/default/{kind}_tasks.txt").write_text("\n".join(names))
    return root


def build(root, num_test=3, **settings):
    corpus = CorpusSettings(path=str(root), **{"min_instances": 10, "instances_per_task": 5} | settings)
    return build_task_sets(corpus, EvaluationSettings(instances_per_task=num_test))


def test_each_named_task_is_drawn_first_taken_or_dropped_with_its_reason(tmp_path):
    tasks = {
        "big": ("A", 12),
        "small": ("B", 9),
        "just": ("A", 10),
        "heldout": ("C", 8),
        "hollow": ("C", 0),
        "no": ("Z", 50),
    }
    root = write_corpus(tmp_path, tasks, train=["small", "just", "gone", "big"], test=["hollow", "lost", "heldout"])
    sets = build(root)
    assert [task.name for task in sets.pool] == ["big", "just"]
    assert [task.name for task in sets.test] == ["heldout"]
    assert ids(sets.pool[0].instances) == ids(draw_instances(make_task("big", 12), 5, seed=0))
    assert ids(sets.test[0].instances) == ["heldout-0", "heldout-1", "heldout-2"]
    assert {record.task: record.reason for record in sets.dropped} == {
        "small": "instances: 9, fewer than min_instances: 10",
        "gone": "train task not on disk",
        "lost": "test task not on disk",
        "hollow": "test task without instances",
    }
    table = sets.table().to_pylist()
    assert [row["task"] for row in table] == sorted([*tasks.keys() - {"no"}, "gone", "lost"])
    assert table[0] == {
        "task": "big", "role": "pool", "category": "A", "num_instances": 12, "num_drawn": 5, "reason": "",
        "reason_group": "",
    }  # fmt: skip


def test_another_pool_does_not_change_what_is_drawn_of_a_task(tmp_path):
    tasks = {"a": ("A", 50), "b": ("A", 50), "t": ("C", 50)}
    alone = build(write_corpus(tmp_path / "1", tasks, train=["a"], test=["t"]))
    both = build(write_corpus(tmp_path / "2", tasks, train=["b", "a"], test=["t"]))
    assert alone.pool[0] == both.pool[0]
    assert alone.test == both.test


def test_a_bad_file_stops_unless_it_may_be_skipped_and_then_it_is_recorded(tmp_path):
    bad = {f"bad{index:02}": b"{" for index in range(12)}
    tasks = {"good": ("A", 20), "t": ("C", 20)} | bad
    root = write_corpus(tmp_path, tasks, train=["good", *bad], test=["t"])
    with pytest.raises(CorpusError) as caught:
        build(root)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"{root}/tasks/bad00.json, line 1, column 2: broken JSON")
    assert lines[-2] == "... and 2 more"
    assert "corpus.skip_bad=true" in lines[-1]
    sets = build(root, skip_bad=True)
    assert [task.name for task in sets.pool] == ["good"]
    assert [record.reason[:10] for record in sets.dropped] == ["unreadable"] * 12
    assert "broken JSON" in sets.dropped[0].reason
    assert len(sets.problems) == 12


def test_a_task_on_both_sides_is_refused(tmp_path):
    root = write_corpus(tmp_path, {"a": ("A", 20), "b": ("A", 20)}, train=["a", "b"], test=["b"])
    with pytest.raises(CorpusError, match=r"1 task is in both the train and the test list \(b\)"):
        build(root)


def test_an_empty_pool_or_hold_out_is_refused(tmp_path):
    root = write_corpus(tmp_path, {"a": ("A", 20), "t": ("C", 20)}, train=["a"], test=["gone", "t"])
    with pytest.raises(
        CorpusError,
        match=r"^corpus\.min_instances: .*empty: .*: a \(fewer than min_instances: 21\).*has 20 inst",
    ):
        build(root, min_instances=21)
    (root / "tasks/t.json").unlink()
    with pytest.raises(
        CorpusError,
        match=r"^corpus\.holdout\.split: .*no test task .* can be used: gone, t \(test task not on disk\)\. Check",
    ):
        build(root)
    for train, why in (
        (("gone", "lost"), r"gone, lost \(train task not on disk\)"),
        (("gone", "torn"), r"gone \(train task not on disk\); torn \(unreadable\)"),
    ):
        (root / "tasks/torn.json").write_bytes(b"{")
        holdout = HoldoutSettings.model_validate({"tasks": {"train": train, "test": ("a",)}})
        with pytest.raises(
            CorpusError, match=rf"^corpus\.holdout\.tasks: .*pool is empty: every train task was dropped: {why}\. Check"
        ):
            build(root, holdout=holdout, skip_bad=True)


def test_whole_categories_are_held_out_by_name_whatever_its_case(tmp_path):
    root = write_corpus(tmp_path, {"a": ("Story QA", 20), "b": ("Other", 20), "c": ("story qa", 20)})
    sets = build(root, holdout=HoldoutSettings(categories=("STORY QA",)))
    assert [task.name for task in sets.pool] == ["b"]
    assert [task.name for task in sets.test] == ["a", "c"]
    with pytest.raises(CorpusError, match=r"holdout\.categories: .*has the category Missing"):
        build(root, holdout=HoldoutSettings(categories=("Other", "Missing")))


def test_progress_ends_at_the_whole():
    seen = []
    build_task_sets(CorpusSettings(min_instances=60), EvaluationSettings(), lambda *now: seen.append(now))
    assert seen[0] == (0, seen[-1][1])
    assert seen[-1][0] == seen[-1][1]


def test_the_published_default_split(shared_data):
    corpus = CorpusSettings(path=str(shared_data / "sup-natinst"), min_instances=100)
    sets = build_task_sets(corpus, EvaluationSettings())
    assert (len(sets.pool), len(sets.test)) == (674, 103)
    assert len(sets.records) == 756 + 119
    assert all(len(task.instances) == 100 for task in sets.pool)
    assert not set(sets.pool) & set(sets.test)
