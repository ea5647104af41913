"""Which tasks each rule holds out, and what happens to the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simtune.config import CorpusSettings, EvaluationSettings
from simtune.config.holdout import HoldoutSettings
from simtune.corpus.drawn_tasks import DrawnTasks
from simtune.corpus.holdout import make_split, single_rules, split_name
from simtune.corpus.pool import build_task_sets, why_dropped
from simtune.errors import CorpusError

TASKS = {
    # Name: category, sources, number of instances.
    "a1": ("Story QA", ["rocstories"], 3),
    "a2": ("story qa", ["ROC Stories", "snli"], 3),
    "a3": ("Story QA", [], 3),
    "b1": ("Entailment", ["SNLI"], 3),
    "b2": ("Entailment", ["mnli; snli"], 3),
    "c1": ("Grammar", ["synthetic"], 3),
    "d1": ("Empty", ["nothing"], 0),
}
CLUSTERS: dict[str, Any] = {
    "stories": {"categories": ["STORY QA"], "related": ["rest"]},
    "nli": {"tasks": ["b1"], "categories": ["entailment"]},
    "rest": {"tasks": ["c1", "a3"], "held_out": False},
}


@pytest.fixture
def tasks(tmp_path: Path) -> DrawnTasks:
    for name, (category, sources, count) in TASKS.items():
        instances = [{"id": f"{name}-{i}", "input": f"{name} {i}", "output": ["y"]} for i in range(count)]
        task = {"Definition": "Do.", "Categories": [category], "Source": sources, "Instances": instances}
        (tmp_path / f"{name}.json").write_text(json.dumps(task))
    return DrawnTasks(CorpusSettings(path=str(tmp_path)), 2)


def quiet(done: int, total: int) -> None:
    pass


def splits(corpus: DrawnTasks, **rule: Any) -> dict[str, tuple[str, str]]:
    """Pool and test tasks of each split of a rule, by its name."""
    found = {}
    for name, single in single_rules(HoldoutSettings(**rule), corpus, quiet).items():
        assert not single.gives_several
        assert split_name(single) == name
        split = make_split(HoldoutSettings.model_validate(single.model_dump(mode="json")), corpus, quiet)
        assert not set(split.train) & set(split.test)
        assert {*split.train, *split.test, *split.left_out} == set(TASKS) or "tasks" in rule
        found[name] = (" ".join(split.train), " ".join(split.test))
    return found


def test_categories_are_held_out_together_or_each_in_turn(tasks: DrawnTasks) -> None:
    assert splits(tasks, categories=["story QA", "Grammar"]) == {"story QA + Grammar": ("b1 b2 d1", "a1 a2 a3 c1")}
    assert splits(tasks, categories="each") == {
        "Entailment": ("a1 a2 a3 c1 d1", "b1 b2"),
        "Grammar": ("a1 a2 a3 b1 b2 d1", "c1"),
        "Story QA": ("b1 b2 c1 d1", "a1 a2 a3"),
    }


def test_data_sets_are_the_same_whatever_their_spelling(tasks: DrawnTasks) -> None:
    assert splits(tasks, source="Snli") == {"Snli": ("a1 a3 c1 d1", "a2 b1 b2")}
    assert splits(tasks, source="each") == {
        "mnli": ("a1 a2 a3 b1 c1 d1", "b2"),
        "rocstories": ("a3 b1 b2 c1 d1", "a1 a2"),
        "snli": ("a1 a3 c1 d1", "a2 b1 b2"),
    }


def test_each_task_with_instances_is_left_out_in_turn(tasks: DrawnTasks) -> None:
    found = splits(tasks, task="each")
    assert list(found) == ["a1", "a2", "a3", "b1", "b2", "c1"]
    assert found["b1"] == ("a1 a2 a3 b2 c1 d1", "b1")
    assert splits(tasks, task=["b1", "a1"]) == {"b1 + a1": ("a2 a3 b2 c1 d1", "a1 b1")}


def test_tasks_of_related_clusters_are_trained_on_neither(tasks: DrawnTasks) -> None:
    assert splits(tasks, clusters=CLUSTERS) == {
        "stories": ("b1 b2 d1", "a1 a2 a3"),
        "nli": ("a1 a2 a3 c1 d1", "b1 b2"),
    }
    both_ways = {**CLUSTERS, "rest": {**CLUSTERS["rest"], "held_out": True}}
    assert splits(tasks, clusters=both_ways)["rest"] == ("b1 b2 d1", "a3 c1")
    one = {"nli": CLUSTERS["nli"], "rest": {**CLUSTERS["rest"], "related": ["nli"]}}
    assert splits(tasks, clusters=one) == {"nli": ("a1 a2 d1", "b1 b2")}
    rule = HoldoutSettings(clusters=one)
    corpus = CorpusSettings(path=tasks.source.label, min_instances=1, holdout=rule)
    records = {record.task: record for record in build_task_sets(corpus, EvaluationSettings()).records}
    assert records["c1"].role == "dropped"
    assert records["c1"].reason == "in cluster rest, which is related to the held-out cluster nli"
    assert why_dropped([records["c1"]]) == "c1 (in cluster rest, which is related to the held-out cluster nli)"


def test_random_tasks_of_each_category_leave_one_in_the_pool(tasks: DrawnTasks) -> None:
    found = {}
    for seed in range(20):
        rule = {"num": 1, "seed": seed}
        ((name, (train, test)),) = splits(tasks, random_per_category=rule).items()
        assert name == f"1 random a category, seed {seed}"
        assert {"c1", "d1"} <= set(train.split())
        assert [held[0] for held in test.split()] == ["a", "b"]
        found[test] = seed
    assert len(found) > 3
    # Fixed for good: another draw would silently make old and new results differ.
    assert splits(tasks, random_per_category={"num": 1, "seed": 0}) == {
        "1 random a category, seed 0": ("a2 a3 b1 c1 d1", "a1 b2")
    }
    ((_, (train, _)),) = splits(tasks, random_per_category={"num": 5}).items()
    assert sorted(name[0] for name in train.split()) == ["a", "b", "c", "d"]


def test_lists_leave_out_what_they_do_not_name(tasks: DrawnTasks) -> None:
    assert splits(tasks, tasks={"train": ["a1", "b1"], "test": "c1"}) == {"lists": ("a1 b1", "c1")}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            {"categories": ["Storry QA"]},
            r"holdout\.categories: no task of .* has the category Storry QA; did you mean",
        ),
        ({"source": ["sinli"]}, r"corpus\.holdout\.source: no task of .* has the source data set sinli; did you mean"),
        ({"task": ["b3"]}, r"corpus\.holdout\.task: .* has no task b3"),
        ({"clusters": {"x": {"tasks": ["b3"]}}}, r"corpus\.holdout\.clusters\.x\.tasks: .* has no task b3"),
        (
            {"clusters": {"x": {"categories": ["Z"]}}},
            r"holdout\.clusters\.x\.categories: no task .* category Z",
        ),
    ],
)
def test_what_the_corpus_does_not_have_is_named(rule: dict[str, Any], message: str, tasks: DrawnTasks) -> None:
    with pytest.raises(CorpusError, match=message):
        splits(tasks, **rule)


def test_a_corpus_without_data_sets_says_so(tasks: DrawnTasks, tmp_path: Path) -> None:
    for path in tmp_path.glob("[abd]*.json"):
        path.unlink()
    corpus = DrawnTasks(CorpusSettings(path=str(tmp_path)), 2)
    with pytest.raises(CorpusError, match=r"corpus\.holdout\.source: no task of .* names a source data set"):
        single_rules(HoldoutSettings(source="each"), corpus, quiet)


def test_hold_outs_of_one_corpus_share_what_was_read(tasks: DrawnTasks, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = type(tasks.source).read

    def counting(self: Any, name: str, definition_only: bool = False) -> Any:
        read.append(name)
        return original(self, name, definition_only)

    monkeypatch.setattr(type(tasks.source), "read", counting)
    for single in single_rules(HoldoutSettings(task="each"), tasks, quiet).values():
        corpus = CorpusSettings(path=tasks.source.label, min_instances=1, holdout=single)
        sets = build_task_sets(corpus, EvaluationSettings(instances_per_task=2), tasks=tasks)
        assert [len(task.instances) for task in sets.test] == [2]
        assert [len(task.instances) for task in sets.pool] == [3] * 5
    assert sorted(read) == sorted(TASKS)
